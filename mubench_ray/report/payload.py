"""What the page's script works on, as JSON: the leaderboard, the scopes, the noise floor, the chart specifications.

Tables are packed by column, so that a page of 20,000 configurations stays a few megabytes and is made in a second.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from mubench_ray.report.charts import CHARTS, Panels, drawn_on
from mubench_ray.report.columns import DRAWN, GIVEN, averaged, shown_in
from mubench_ray.report.frontier import ENDINGS
from mubench_ray.report.grouping import group_by
from mubench_ray.report.histograms import SCHEMA
from mubench_ray.report.load import Results
from mubench_ray.report.marks import ALL, listed
from mubench_ray.report.report import Report
from mubench_ray.report.runs import UI, rerun_command, runs_of, ui_command
from mubench_ray.report.styles import panel_spec
from mubench_ray.report.summary import CELL, LINE
from mubench_ray.results.marks import MARKS
from mubench_ray.trial import EXTERNAL

#: Significant digits of numbers that are not packed.
DIGITS = 6
#: The rows of the histograms with the marks of their contender.
MARKED = SCHEMA.append(pa.field("marks", pa.string()))
#: Columns of ids.
IDS = ("id", "run")
#: Columns of the page's table beside the metrics.
BOARD = [
    *LINE,
    "label",
    "control",
    "uses_validation",
    "on_selection_seeds",
    "unequal_terms",
    "n",
    "planned",
    "truncated",
    "at_edge",
    "untrusted",
    "unchecked",
    "within",
    "not_told_apart",
    "interval_over",
    "group",
    "told_from_retrain",
]


def embedded(content: Any) -> Markup:
    """JSON that may stand inside a script element, whatever texts it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def payload(report: Report) -> dict[str, Any]:
    """Everything the script reads."""
    results = report.results
    keys = ("name", "title", "direction", "summary", "cites", "format", "of")
    board = board_columns(report)
    charted = report.scopes.drop_columns(sorted(unseen(results).intersection(report.scopes.column_names)))
    return {
        "columns": [
            {key: getattr(c, key) for key in keys} | {place: place in c.shown for place in ("board", "letters")}
            for c in results.columns
            if c.name in board.column_names
        ],
        "marks": {mark.name: asdict(mark) for mark in MARKS},
        "board": table_payload(board.drop_columns(["method", "after"])),
        "trials": table_payload(trials_of(results, board)),
        "scopes": table_payload(charted),
        "noise": noise_payload(report),
        "styles": [asdict(style) for style in report.styles],
        "panels": panels(report),
        "resisting": with_marks(report, report.resisting),
        "histograms": table_payload(pa.Table.from_pylist(with_marks(report, report.histograms.to_pylist()), MARKED)),
        "capacity": with_marks(report, report.capacities),
        "scaling": with_marks(report, report.scaling),
        "ui": {"server": UI, "command": ui_command(results.root)},
        "rerun": rerun_command(results.root, "TRIAL_ID"),
    }


def panels(report: Report) -> dict[str, list[dict[str, Any]]]:
    """The specifications of each chart's panels; none where nothing could be drawn."""
    draw = Panels(report.styles, report.ratios)
    return {
        chart.name: [
            panel_spec(drawn, report.styles, chart.height, column.name)
            for column, drawn in drawn_on(report, chart, draw)
        ]
        for chart in CHARTS
    }


def with_marks(report: Report, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a chart that is not of the scopes, with the ``marks`` of their contender where they are of."""
    scopes = [(row["label"], row["task"], row["model"], row.get("ratio", ALL)) for row in rows]
    found = {scope: report.marks.name(*scope)[len(scope[0]) :] for scope in set(scopes)}
    return [row | {"marks": found[scope]} for row, scope in zip(rows, scopes, strict=True)]


def board_columns(report: Report) -> pa.Table:
    """The leaderboard's rows in the order the page opens with: by cell, controls first, then by what tells
    contenders apart, where it is not untrusted; what was unlearned elsewhere last."""
    board, results = report.board, report.results
    metrics = [*results.metrics, *(column.name for column in results.columns if column.of)]
    board = board.select([*BOARD, *(name + edge for name in metrics for edge in ("", "_low", "_high"))])
    contends = ~board["control"].to_numpy(zero_copy_only=False).astype(bool)
    elsewhere = board["method"].to_numpy(zero_copy_only=False) == EXTERNAL
    board = board.append_column("after_controls", pa.array(contends.astype(np.int8) + elsewhere))
    by, keys = [(name, "ascending") for name in (*CELL, "after_controls")], ["after_controls"]
    for column in shown_in("letters", results.columns):
        ranked = pa.array([column.name not in listed(names) for names in board["untrusted"].to_pylist()], pa.bool_())
        values = pc.call_function("if_else", [ranked, board[column.name], pa.scalar(None, pa.float64())])
        board = board.append_column(f"{column.name}_ranked", values)
        by.append((f"{column.name}_ranked", "ascending"))
        keys.append(f"{column.name}_ranked")
    return board.sort_by([*by, ("label", "ascending")]).drop_columns(keys)


def trials_of(results: Results, board: pa.Table) -> pa.Table:
    """The trials of every row of ``board``: ``row`` (its place there), ``id``, ``seed``, ``status`` and ``run``,
    ``experiment`` and ``server`` of the MLflow run (null where none is known), and on a leaderboard ``from``, the group."""
    groups = group_by(results.trials, LINE)
    first = results.trials.take(pa.array(groups.first)).select(LINE)
    place = {tuple(row.values()): index for index, row in enumerate(board.select(LINE).to_pylist())}
    row = np.array([place[tuple(keys.values())] for keys in first.to_pylist()], np.int64)[groups.code]
    order = pa.array(np.argsort(row, kind="stable"))
    ids = results.trials["trial_id"].combine_chunks()
    columns = {"row": pa.array(row), "id": ids, "seed": results.trials["seed"], "status": results.trials["status"]}
    if "submission" in results.trials.column_names:
        columns["from"] = results.trials["submission"]
    return pa.table(columns | runs_of(results, ids)).take(order)


def unseen(results: Results) -> set[str]:
    """Columns of the scopes that no chart reads."""
    columns = [column for column in results.columns if averaged(column)]
    charted = [column for column in columns if column.name in ENDINGS or not set(DRAWN).isdisjoint(column.shown)]
    bare = [column for column in columns if column not in charted or column.name in ENDINGS]
    hidden = {column.name for column in columns if column not in charted}
    hidden.add("terms")
    hidden |= {f"{name}_marks" for name in hidden}
    return hidden | {c.name + "_sd" for c in columns} | {c.name + edge for c in bare for edge in ("_low", "_high")}


def table_payload(table: pa.Table) -> dict[str, Any]:
    """A table as its length and packed columns: see ``packed``."""
    return {"count": len(table), "columns": {name: packed(name, table[name]) for name in table.column_names}}


def packed(name: str, column: pa.ChunkedArray) -> Any:
    """A column as the page's script unpacks it.

    Measured values are ``f32``, little-endian single precision in base64, NaN for null; everything else, and what
    is given, which filters compare, is ``of``, the distinct values, and ``at``, the position of each row's in 1, 2 or 4 bytes; ids of
    one length stand one after the other in ``text``.
    """
    if pa.types.is_floating(column.type) and name not in GIVEN:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            return {"f32": base64.b64encode(values.astype("<f4").tobytes()).decode()}
    if name in IDS and not column.null_count:
        ids = column.to_pylist()
        if len(width := set(map(len, ids))) == 1:
            return {"text": "".join(ids), "width": width.pop()}
    encoded = column.dictionary_encode(null_encoding="encode").combine_chunks()
    of = [short(value) if isinstance(value, float) else value for value in encoded.dictionary.to_pylist()]
    size = 1 if len(of) <= 0xFF else 2 if len(of) <= 0xFFFF else 4
    at = encoded.indices.to_numpy(zero_copy_only=False).astype(f"<u{size}")
    return {"of": of, "at": base64.b64encode(at.tobytes()).decode(), "size": size}


def short(value: float | None, digits: int = DIGITS) -> float | int | None:
    """So many significant digits; whole numbers without a point; None for NaN."""
    if value is None or not math.isfinite(value):
        return None
    value = float(f"{value:.{digits}g}")
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def noise_payload(report: Report) -> dict[str, dict[str, float | int | None]]:
    """The noise floor by ``task NUL model NUL ratio``, of what is shown as a difference to the retrain."""
    differences = [column for column in report.results.columns if column.of]
    return {
        f"{row['task']}\0{row['model']}\0{short(row['ratio'])}": {c.name: short(row.get(c.of)) for c in differences}
        for row in report.noise.to_pylist()
    }
