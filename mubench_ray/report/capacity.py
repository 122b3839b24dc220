"""Deletion capacity and scaling, as rows of their charts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.report.columns import shown_in
from mubench_ray.report.grouping import group_by
from mubench_ray.report.load import Results
from mubench_ray.report.summary import CONTENDER, contender_labels
from mubench_ray.results.score import common
from mubench_ray.trial import canonical


def read_parts(results: Results, metric: str) -> dict[str, dict[str, Any]]:
    """For each group of ``scores/<metric>.parquet`` its parts, by what its trials have in common of their configuration; empty where the file is missing,
    damaged or of an earlier release (``mubench score`` makes it anew)."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    try:
        for row in pq.read_table(results.root / "scores" / f"{metric}.parquet").to_pylist():
            if row["configuration"] is not None:
                found[row["configuration"]][row["part"]] = row["value"]
    except (pa.ArrowInvalid, KeyError, OSError):
        return {}
    return found


def capacities(results: Results) -> list[dict[str, Any]]:
    """A row a (metric, task, model, contender): ``capacity``, ``low``, ``high``, in percent; what has no value is left
    out."""
    first = group_by(results.trials, ["configuration"]).first
    shown = results.trials.take(pa.array(first)).select(["configuration", "task", "model", "method"]).to_pylist()
    labels = contender_labels(results).take(pa.array(first)).to_pylist()
    rows = []
    for metric in (column.name for column in shown_in("capacity")):
        parts = read_parts(results, metric)
        for row, label in zip(shown, labels, strict=True):
            of = parts.get(row["configuration"], {})
            if of.get("capacity") is not None and row["method"] != "original":
                named = {name: row[name] for name in ("task", "model", "method")}
                rows.append(
                    {"metric": metric, "label": label, **named}
                    | {name: of.get(name) for name in ("capacity", "low", "high")}
                )
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
    flos = trials["flos"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    columns = {name: first[name].to_pylist() for name in ("task", "model", "configuration")}
    columns["label"] = contender_labels(results).take(pa.array(groups.first)).to_pylist()
    columns["flos"] = groups.mean(np.where(results.usable, flos, np.nan)).tolist()
    columns["forget_accuracy"] = groups.mean(results.values("forget_accuracy")).tolist()
    rows = [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]
    rows = [row for row in rows if row["flos"] > 0 and np.isfinite(row["forget_accuracy"])]
    models = defaultdict(set)
    for row in rows:
        models[row["task"], row["label"]].add(row["model"])
    # A fit is of one ratio; points of several have none of their own.
    fits = read_parts(results, "scaling") if len(trials["ratio"].unique()) == 1 else {}
    shown = []
    for row in rows:
        fit = fits.get(canonical(common(row, ("model",))), {})
        del row["configuration"]
        if len(models[row["task"], row["label"]]) > 1:
            shown.append(row | {name: fit.get(name) for name in ("slope", "standard_error")})
    return shown
