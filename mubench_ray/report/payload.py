"""What the page's script works on, as JSON: the leaderboard, the scopes, the noise floor, the chart specifications.

Tables are packed by column, so that a page of 20,000 configurations stays a few megabytes and is made in a second.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from mubench_ray.report.capacity import CAPACITIES
from mubench_ray.report.charts import Panels, grid_spec, panel_spec
from mubench_ray.report.columns import SHOWN, difference_name
from mubench_ray.report.frontier import CURVES_SHOWN, FRONTIERS
from mubench_ray.report.grouping import group_by
from mubench_ray.report.load import Results
from mubench_ray.report.report import Report
from mubench_ray.report.rerun import rerun_command, ui_command
from mubench_ray.report.runs import UI, runs_of
from mubench_ray.report.summary import LINE

#: Significant digits of numbers that are not packed.
DIGITS = 6
#: Numbers that filters compare, and so are not packed in single precision.
EXACT = ("ratio", "lr")
#: Columns of ids.
IDS = ("id", "run")
#: Columns of the page's table beside the metrics.
BOARD = ["task", "model", "ratio", "method", "lr", "hyperparameters", "options", "after", "label", "control"]
BOARD += ["uses_validation", "n", "planned", "truncated", "interval_over", "group"]
BOARD_DIFFERENCES = [difference_name("forget_accuracy")]
#: Height of a row in charts that have one a contender or example.
ROW = alt.Step(24)


def embedded(content: Any) -> Markup:
    """JSON that may stand inside a script element, whatever texts it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def payload(report: Report) -> dict[str, Any]:
    """Everything the script reads."""
    results = report.results
    shown = {column.name for column in SHOWN if not column.folded}
    keys = ("name", "title", "direction", "summary", "cites", "share")
    board = board_columns(report)
    charted = report.scopes.select([name for name in report.scopes.column_names if not unseen(name)])
    return {
        "columns": [{key: getattr(c, key) for key in keys} | {"shown": c.name in shown} for c in results.columns],
        "board": table_payload(board.drop_columns(["method", "after"])),
        "trials": table_payload(trials_of(results, board)),
        "scopes": table_payload(charted),
        "noise": noise_payload(report.noise),
        "styles": [asdict(style) for style in report.styles],
        "panels": panels(report),
        "resisting": report.resisting,
        "histograms": table_payload(report.histograms),
        "capacity": report.capacities,
        "scaling": report.scaling,
        "ui": {"server": UI, "command": ui_command(results.root)},
        "rerun": rerun_command(results.root, "TRIAL_ID"),
    }


def panels(report: Report) -> dict[str, list[dict[str, Any]]]:
    """The chart specifications of each section of the page; none where nothing could be drawn."""
    draw = Panels(report.styles, report.ratios)
    title = {column.name: column.title for column in report.results.columns}
    have = set(report.scopes.column_names)
    accuracies = [name for name in CURVES_SHOWN if name in have]
    frontiers = [name for name in FRONTIERS if f"{name}_dominated" in have]
    glances = [name for name in (*accuracies, "indisc") if name in have]

    measured = [name for name in CAPACITIES if any(row["metric"] == name for row in report.capacities)]

    def spec(chart: alt.LayerChart, height: int | alt.Step) -> dict[str, Any]:
        return panel_spec(chart, report.styles, height)

    return {
        "glance": [spec(draw.glance(name, title[name], i == 0), ROW) for i, name in enumerate(glances)],
        "ratio": [spec(draw.against_ratio(name, title[name]), 300) for name in accuracies],
        "frontier": [spec(draw.frontier(name, title[name]), 340) for name in frontiers],
        "budget": [spec(draw.along_budget(n, title[n]), 280) for n in accuracies if f"{n}@1" in have],
        "resisting": [spec(draw.resisting(), ROW)] if report.resisting else [],
        "lira": [grid_spec(draw.histograms(), report.styles)] if len(report.histograms) else [],
        "capacity": [spec(draw.capacity(name, CAPACITIES[name]), ROW) for name in measured],
        "scaling": [spec(draw.scaling(), 360)] if report.scaling else [],
    }


def board_columns(report: Report) -> pa.Table:
    """The leaderboard's rows in the order the page opens with: by cell, controls first, then by deviation from the
    retrain."""
    board = report.board
    metrics = [*report.results.metrics, *(name for name in BOARD_DIFFERENCES if name in board.column_names)]
    board = board.select([*BOARD, *(name + edge for name in metrics for edge in ("", "_low", "_high"))])
    board = board.append_column("after_controls", pc.cast(pc.invert(board["control"]), pa.int8()))
    by = [("task", "ascending"), ("model", "ascending"), ("ratio", "ascending"), ("after_controls", "ascending")]
    if "retention_deviation" in board.column_names:
        by.append(("retention_deviation", "ascending"))
    return board.sort_by([*by, ("label", "ascending")]).drop_columns(["after_controls"])


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


def unseen(name: str) -> bool:
    """Columns of the scopes that no chart reads."""
    if name.startswith(("u_mia", "retrain_time_efficiency", "seconds")):
        return True
    return name.endswith("_sd") or (name.startswith("flos_share") and name.endswith(("_low", "_high")))


def table_payload(table: pa.Table) -> dict[str, Any]:
    """A table as its length and packed columns: see ``packed``."""
    return {"count": len(table), "columns": {name: packed(name, table[name]) for name in table.column_names}}


def packed(name: str, column: pa.ChunkedArray) -> Any:
    """A column as the page's script unpacks it.

    Measured values are ``f32``, little-endian single precision in base64, NaN for null; everything else, and what
    filters compare, is ``of``, the distinct values, and ``at``, the position of each row's in 1, 2 or 4 bytes; ids of
    one length stand one after the other in ``text``.
    """
    if pa.types.is_floating(column.type) and name not in EXACT:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            return {"f32": base64.b64encode(values.astype("<f4").tobytes()).decode()}
    if name in IDS and not column.null_count:
        width = pc.unique(pc.utf8_length(column)).to_pylist()
        if len(width) == 1:
            return {"text": "".join(column.to_pylist()), "width": width[0]}
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
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


def noise_payload(noise: pa.Table) -> dict[str, dict[str, float | int | None]]:
    """The noise floor by ``task NUL model NUL ratio``."""
    return {
        f"{row['task']}\0{row['model']}\0{short(row['ratio'])}": {"forget_accuracy": short(row.get("forget_accuracy"))}
        for row in noise.to_pylist()
    }
