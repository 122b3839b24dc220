"""Metrics that were computed after the run (``scores/*.parquet``): attacks, capacity, scaling, transfer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.report.grouping import group_by
from mubench_ray.report.load import Results
from mubench_ray.report.marks import ALL, Marks
from mubench_ray.report.summary import contender_labels
from mubench_ray.report.texts import NOTHING
from mubench_ray.results.configurations import spoken
from mubench_ray.results.score import common
from mubench_ray.trial import canonical

#: Rows shown of each metric.
SHOWN = 400


def scored(results: Results, marks: Marks) -> dict[str, tuple[list[str], list[list[str]]]]:
    """For each added metric its headers and rows of texts: method, task, model, ratio, lr, then a column a part with
    the mean value.

    Of rows without any value only the reasons are kept, one row each; files that cannot be read are passed over.
    """
    found, names = {}, group_names(results)
    for path in sorted((results.root / "scores").glob("*.parquet")):
        try:
            found[path.stem] = _rows(path.stem, pq.read_table(path).to_pylist(), names, marks)
        except (pa.ArrowInvalid, KeyError, OSError):
            continue
    return {name: table for name, table in found.items() if table[1]}


def group_names(results: Results) -> dict[str, tuple[str, str, str]]:
    """The names of task, model and contender of a group of trials, by what its trials have in common of their configuration."""
    first = group_by(results.trials, ["configuration"]).first
    rows = results.trials.take(pa.array(first)).select(["configuration", "task", "model"]).to_pylist()
    found = {}
    for row, label in zip(rows, contender_labels(results).take(pa.array(first)).to_pylist(), strict=True):
        found[canonical(common(row, ("model",)))] = row["task"], ALL, label
        found[row["configuration"]] = row["task"], row["model"], label
    return found


def _rows(
    metric: str, scores: list[dict[str, Any]], names: dict[str, tuple[str, str, str]], marks: Marks
) -> tuple[list[str], list[list[str]]]:
    values: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    reasons: dict[str, set[str]] = defaultdict(set)
    for row in scores:
        own = row["task"], row["model"] or ALL, row["method"]
        task, model, label = names.get(row.get("configuration") or "", own)
        if row["value"] is None:
            reasons[row["reason"] or "no value"].add(label)
        else:
            key = (task, model, row["ratio"], label, row["lr"], row.get("configuration") or row["hyperparameters"])
            values[key][row["part"]].append(row["value"])
    parts = list(dict.fromkeys(part for of in values.values() for part in of))
    rows = []
    for key in sorted(values, key=lambda key: tuple((part is not None, part) for part in key))[:SHOWN]:
        task, model, ratio, label, lr, _ = key
        cell = task, model, ALL if ratio is None else ratio
        share = ALL if ratio is None else f"{spoken(ratio)} %"
        where = [task, model, share + marks.cell(*cell), NOTHING if lr is None else spoken(lr)]
        texts = []
        for part in parts:
            of = values[key].get(part)
            mark = marks.measure(metric if part == "value" else f"{metric} {part}", *cell)
            texts.append(f"{sum(of) / len(of):.4g}{mark}" if of else NOTHING)
        rows.append([marks.name(label, *cell), *where, *texts])
    if not rows:
        rows = [[", ".join(sorted(methods)), reason] for reason, methods in sorted(reasons.items())]
        return ["method", "no value, because"], rows
    return ["method", "task", "model", "ratio", "lr", *parts], rows
