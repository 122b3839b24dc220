"""Deletion capacity and scaling, as rows of their charts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mubench_ray.report.grouping import group_by
from mubench_ray.report.load import Results
from mubench_ray.report.summary import CONTENDER, contender_labels

#: The group metrics that are drawn, with their headings.
CAPACITIES = {
    "deletion_capacity": "Loss on D_Test within 0.05 nats of the original's",
    "deletion_capacity_accuracy": "Accuracy on D_Test within 0.01 of the original's",
}


def read_parts(results: Results, metric: str) -> list[dict[str, Any]]:
    """``scores/<metric>.parquet`` as a row a group with its parts as columns; empty where it is missing or damaged."""
    # Scores name a task without the cut that the report adds, task[n].
    tasks = pc.unique(results.trials["task"]).to_pylist()
    named = {task.partition("[")[0]: task for task in tasks}
    try:
        rows = pq.read_table(results.root / "scores" / f"{metric}.parquet").to_pylist()
        found: dict[tuple, dict[str, Any]] = defaultdict(dict)
        for row in rows:
            group = {name: row[name] for name in ("task", "model", "method", "lr", "hyperparameters")}
            group["task"] = named.get(row["task"], row["task"])
            found[tuple(group.values())] |= group | {row["part"]: row["value"]}
    except (pa.ArrowInvalid, KeyError, OSError):
        return []
    return list(found.values())


def labels_of(results: Results) -> dict[tuple, str]:
    """The contender's label by (method, lr, hyperparameters)."""
    names = [results.trials[name].to_pylist() for name in ("method", "lr", "hyperparameters")]
    return dict(zip(zip(*names, strict=True), contender_labels(results).to_pylist(), strict=True))


def capacities(results: Results) -> list[dict[str, Any]]:
    """A row a (metric, task, model, contender): ``capacity``, ``low``, ``high``, in percent; what has no value is left
    out."""
    labels = labels_of(results)
    rows = []
    for metric in CAPACITIES:
        for row in read_parts(results, metric):
            label = labels.get((row["method"], row["lr"], row["hyperparameters"]))
            if label is not None and row.get("capacity") is not None and row["method"] != "original":
                shown = {name: row.get(name) for name in ("task", "model", "method", "capacity", "low", "high")}
                rows.append({"metric": metric, "label": label, **shown})
    return rows


def scaling(results: Results) -> list[dict[str, Any]]:
    """A row a (task, model, contender): mean ``flos`` and ``forget_accuracy`` over its usable trials, with the fitted
    ``slope`` and ``standard_error`` of the contender where ``scores/scaling.parquet`` has them.

    Only tasks with several models, and contenders that spent anything on at least two of them.
    """
    trials = results.trials
    if "forget_accuracy" not in results.metrics:
        return []
    groups = group_by(trials, ["task", "model", *CONTENDER])
    first = trials.take(pa.array(groups.first))
    flos = pc.cast(trials["flos"], pa.float64()).to_numpy(zero_copy_only=False)
    columns = {name: first[name].to_pylist() for name in ("task", "model", "method", "lr", "hyperparameters")}
    columns["label"] = contender_labels(results).take(pa.array(groups.first)).to_pylist()
    columns["flos"] = groups.mean(np.where(results.usable, flos, np.nan)).tolist()
    columns["forget_accuracy"] = groups.mean(results.values("forget_accuracy")).tolist()
    rows = [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]
    rows = [row for row in rows if row["flos"] > 0 and np.isfinite(row["forget_accuracy"])]
    models = defaultdict(set)
    for row in rows:
        models[row["task"], row["label"]].add(row["model"])
    fits = {
        (row["task"], row["method"], row["lr"], row["hyperparameters"]): row for row in read_parts(results, "scaling")
    }
    shown = []
    for row in rows:
        if len(models[row["task"], row["label"]]) > 1:
            fit = fits.get((row["task"], row.pop("method"), row.pop("lr"), row.pop("hyperparameters")), {})
            shown.append(row | {name: fit.get(name) for name in ("slope", "standard_error")})
    return shown
