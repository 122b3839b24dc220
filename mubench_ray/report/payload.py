"""What the page's script works on, as JSON: the leaderboard, the scopes, the noise floor, the chart specifications."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from mubench_ray.report.charts import Panels, panel_spec
from mubench_ray.report.columns import SHOWN, difference_name
from mubench_ray.report.frontier import CURVES_SHOWN, FRONTIERS
from mubench_ray.report.grouping import group_by
from mubench_ray.report.report import Report
from mubench_ray.report.rerun import rerun_command
from mubench_ray.report.summary import CELL, CONTENDER

#: Significant digits on the table and in the charts.
DIGITS = 6
CHART_DIGITS = 4
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
    charted = report.scopes.select([name for name in report.scopes.column_names if not unseen(name)])
    return {
        "columns": [{key: getattr(c, key) for key in keys} | {"shown": c.name in shown} for c in results.columns],
        "board": table_payload(board_columns(report)),
        "scopes": table_payload(charted, CHART_DIGITS),
        "noise": noise_payload(report.noise),
        "styles": [asdict(style) for style in report.styles],
        "panels": panels(report),
        "resisting": report.resisting,
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

    def spec(chart: alt.LayerChart, height: int | alt.Step) -> dict[str, Any]:
        return panel_spec(chart, report.styles, height)

    return {
        "glance": [spec(draw.glance(name, title[name], i == 0), ROW) for i, name in enumerate(glances)],
        "ratio": [spec(draw.against_ratio(name, title[name]), 300) for name in accuracies],
        "frontier": [spec(draw.frontier(name, title[name]), 340) for name in frontiers],
        "budget": [spec(draw.along_budget(n, title[n]), 280) for n in accuracies if f"{n}@1" in have],
        "resisting": [spec(draw.resisting(), ROW)] if report.resisting else [],
    }


def board_columns(report: Report) -> pa.Table:
    """The leaderboard's rows with their trials, in the order the page opens with: by cell, controls first, then by
    deviation from the retrain."""
    results, board = report.results, report.board
    metrics = [*results.metrics, *(name for name in BOARD_DIFFERENCES if name in board.column_names)]
    board = board.select([*BOARD, *(name + edge for name in metrics for edge in ("", "_low", "_high"))])
    groups = group_by(results.trials, [*CELL, *CONTENDER])
    first = results.trials.take(pa.array(groups.first)).select([*CELL, *CONTENDER])
    members = np.split(np.argsort(groups.code, kind="stable"), np.cumsum(groups.count())[:-1])
    ids, seeds, statuses = (results.trials[name].to_pylist() for name in ("trial_id", "seed", "status"))
    of = {
        tuple(row.values()): [[ids[i], seeds[i], statuses[i]] for i in rows]
        for row, rows in zip(first.to_pylist(), members, strict=True)
    }
    keys = [tuple(row.values()) for row in board.select([*CELL, *CONTENDER]).to_pylist()]
    board = board.append_column("trials", pa.array([json.dumps(of[key]) for key in keys]))
    board = board.append_column("after_controls", pc.cast(pc.invert(board["control"]), pa.int8()))
    by = [("task", "ascending"), ("model", "ascending"), ("ratio", "ascending"), ("after_controls", "ascending")]
    if "retention_deviation" in board.column_names:
        by.append(("retention_deviation", "ascending"))
    return board.sort_by([*by, ("label", "ascending")]).drop_columns(["after_controls", "method", "after"])


def unseen(name: str) -> bool:
    """Columns of the scopes that no chart reads."""
    if name.startswith(("u_mia", "retrain_time_efficiency", "seconds")):
        return True
    return name.endswith("_sd") or (("@" in name or name.startswith("flos_share")) and name.endswith(("_low", "_high")))


def table_payload(table: pa.Table, digits: int = DIGITS) -> dict[str, Any]:
    """A table as field names and rows of values, floats cut to what a reader can see."""
    columns = []
    for name in table.column_names:
        column = table[name]
        if name == "trials":
            columns.append([json.loads(text) for text in column.to_pylist()])
        elif pa.types.is_floating(column.type):
            columns.append([short(value, digits) for value in column.to_pylist()])
        else:
            columns.append(column.to_pylist())
    return {"fields": table.column_names, "rows": [list(row) for row in zip(*columns, strict=True)]}


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
