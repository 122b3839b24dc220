"""Metrics that were computed after the run (``scores/*.parquet``): attacks, capacity, scaling, transfer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.report.load import Results
from mubench_ray.report.summary import number

#: Rows shown of each metric.
SHOWN = 400


def scored(results: Results) -> dict[str, tuple[list[str], list[list[str]]]]:
    """For each added metric its headers and rows of texts: method, task, model, ratio, lr, then a column a part with
    the mean value.

    Of rows without any value only the reasons are kept, one row each; files that cannot be read are passed over.
    """
    folder = results.root / "scores"
    found = {}
    for path in sorted(folder.glob("*.parquet")) if folder.is_dir() else []:
        try:
            found[path.stem] = _rows(pq.read_table(path).to_pylist())
        except (pa.ArrowInvalid, KeyError, OSError):
            continue
    return {name: table for name, table in found.items() if table[1]}


def _rows(scores: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    values: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    reasons: dict[str, set[str]] = defaultdict(set)
    for row in scores:
        key = tuple(row[name] for name in ("task", "model", "ratio", "method", "lr", "hyperparameters"))
        if row["value"] is None:
            reasons[row["reason"] or "no value"].add(row["method"])
        else:
            values[key][row["part"]].append(row["value"])
    parts = list(dict.fromkeys(part for of in values.values() for part in of))
    rows = []
    for key in sorted(values, key=lambda key: tuple((part is not None, part) for part in key))[:SHOWN]:
        task, model, ratio, method, lr, _ = key
        where = [
            task,
            model or "all",
            "all" if ratio is None else f"{number(ratio)} %",
            "–" if lr is None else number(lr),
        ]
        means = [sum(of) / len(of) if (of := values[key].get(part)) else None for part in parts]
        rows.append([method, *where, *("–" if mean is None else f"{mean:.4g}" for mean in means)])
    if not rows:
        rows = [[", ".join(sorted(methods)), reason] for reason, methods in sorted(reasons.items())]
        return ["method", "no value, because"], rows
    return ["method", "task", "model", "ratio", "lr", *parts], rows
