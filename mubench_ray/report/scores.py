"""Metrics that were computed after the run (``scores/*.parquet``): attacks, capacity, scaling, transfer."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.report.load import Results
from mubench_ray.report.summary import number

#: Rows shown of each metric.
SHOWN = 400


def scored(results: Results) -> dict[str, list[list[str]]]:
    """For each added metric its rows of texts: task, model, ratio, method, lr, part, mean value, rows behind it.

    Where the metric gave no value the reason stands in its place; files that cannot be read are passed over.
    """
    folder = results.root / "scores"
    found = {}
    for path in sorted(folder.glob("*.parquet")) if folder.is_dir() else []:
        try:
            table = pq.read_table(path)
            found[path.stem] = _rows(table)
        except (pa.ArrowInvalid, KeyError, OSError):
            continue
    return {name: rows for name, rows in found.items() if rows}


def _rows(table: pa.Table) -> list[list[str]]:
    keys = ["task", "model", "ratio", "method", "lr", "part"]
    means = table.group_by(keys).aggregate([("value", "mean"), ("value", "count"), ("reason", "min")])
    rows = []
    for row in means.sort_by([(key, "ascending") for key in keys]).slice(0, SHOWN).to_pylist():
        value = row["reason_min"] or "–" if row["value_mean"] is None else f"{row['value_mean']:.4g}"
        ratio = "all" if row["ratio"] is None else f"{number(row['ratio'])} %"
        lr = "–" if row["lr"] is None else number(row["lr"])
        rows.append(
            [row["method"], row["task"], row["model"] or "all", ratio, lr, row["part"], value, str(row["value_count"])]
        )
    return rows
