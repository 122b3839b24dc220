"""The leaderboard page: one file that fetches nothing."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mubench_ray.report.charts import Panels, panel_spec
from mubench_ray.report.columns import CONTROLS, SHOWN, difference_name
from mubench_ray.report.frontier import FRONTIERS
from mubench_ray.report.grouping import group_by
from mubench_ray.report.load import Results
from mubench_ray.report.report import Report
from mubench_ray.report.rerun import rerun_command
from mubench_ray.report.sections import blocks
from mubench_ray.report.summary import CELL, CONTENDER
from mubench_ray.results.schema import STATUSES

METHOD_NOTE = (
    "95% of the mean over seeds, by a bootstrap stretched to the width that so few seeds need (t instead of normal "
    "quantile); nested seeds are averaged up to the outermost level that varies; one seed has no interval."
)
FAILURES_SHOWN = 50
ROW = alt.Step(24)
DIGITS = 6
CHART_DIGITS = 4


def render(report: Report) -> str:
    """The whole page as HTML."""
    results = report.results
    count = len(results.trials)
    environment = Environment(
        loader=PackageLoader("mubench_ray.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("leaderboard.html").render(
        suite=str(results.manifest.get("suite") or results.root.name),
        root=str(results.root),
        lead=lead(report),
        cards=cards(results),
        count=count,
        blocks=blocks(report) if count else [],
        failures=failures(results.trials),
        provenance=provenance_rows(results),
        method_note=METHOD_NOTE,
        payload=embedded(payload(report)) if count else "",
        bundle=Markup(vega_bundle()) if count else "",
    )


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand inside a page."""
    import vl_convert

    return vl_convert.javascript_bundle().replace("</script", "<\\/script")


def embedded(content: Any) -> Markup:
    """JSON that may stand inside a script element, whatever texts it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def lead(report: Report) -> str:
    """One sentence on what was compared."""
    trials = report.results.trials
    parts = []
    for name, word in (
        ("task", "task"),
        ("model", "model"),
        ("method", "method"),
        ("ratio", "ratio"),
        ("training_seed", "training seed"),
    ):
        values = pc.unique(trials[name]).to_pylist()
        listed = [f"{value:g}\u00a0%" if name == "ratio" else str(value) for value in sorted(values)]
        if name == "method":
            listed = [value for value in listed if value not in CONTROLS]
        parts.append(
            f"{len(listed)} {word}{'' if len(listed) == 1 else 's'}"
            + (f" ({', '.join(listed)})" if 0 < len(listed) <= 10 else "")
        )
    return "Unlearning methods against the original and the retrained model: " + " · ".join(parts) + "."


def cards(results: Results) -> list[dict[str, str]]:
    """The counts at the head of the page: a planned trial is either one of these or missing."""
    status = dict(
        zip(
            *(results.trials["status"].combine_chunks().value_counts().field(i).to_pylist() for i in (0, 1)),
            strict=True,
        )
    )
    done = len(results.trials)
    made = [{"name": "trials", "value": f"{done:,}", "kind": ""}]
    kinds = {"ok": "good", "truncated": "warn"}
    names = {"out_of_memory": "out of memory", "truncated": "truncated by budget"}
    made += [
        {"name": names.get(name, name), "value": f"{status[name]:,}", "kind": kinds.get(name, "bad")}
        for name in STATUSES
        if status.get(name)
    ]
    planned = results.manifest.get("trials")
    if isinstance(planned, int) and planned > done:
        made.append({"name": "still missing", "value": f"{planned - done:,}", "kind": "bad"})
    return made


def failures(trials: pa.Table) -> list[dict[str, Any]]:
    """Rows that are not ``ok``, counted by status and reason, most frequent first."""
    short = trials.filter(pc.not_equal(trials["status"], "ok")).select(["status", "error", "method", "trial_id"])
    if not len(short):
        return []
    rank = {name: position for position, name in enumerate(reversed(STATUSES))}
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in short.to_pylist():
        reason = row["error"] or (
            "reached the budget of its retrain and was evaluated there"
            if row["status"] == "truncated"
            else "no reason was recorded"
        )
        found[row["status"], reason].append((row["method"], row["trial_id"]))
    ordered = sorted(
        found.items(), key=lambda item: (rank.get(item[0][0], 0) == rank["truncated"], -len(item[1]), item[0])
    )
    return [
        {
            "status": status,
            "error": error,
            "trials": len(of),
            "methods": ", ".join(sorted({m for m, _ in of})),
            "trial_id": of[0][1],
        }
        for (status, error), of in ordered[:FAILURES_SHOWN]
    ]


def provenance_rows(results: Results) -> list[tuple[str, str]]:
    """Versions, commit, host of the run, and the devices and concurrency of the trials."""
    rows = [
        (str(name), str(value))
        for name, value in (results.manifest.get("provenance") or {}).items()
        if value is not None
    ]
    for name, word in (("device", "device"), ("concurrency", "trials at a time"), ("sampler", "forget sampler")):
        values = sorted(str(value) for value in pc.unique(results.trials[name]).to_pylist() if value is not None)
        if values:
            rows.append((word, ", ".join(values)))
    if results.manifest.get("mlflow_uri"):
        rows.append(("MLflow", str(results.manifest["mlflow_uri"])))
    return rows


def payload(report: Report) -> dict[str, Any]:
    """What the page's script works on."""
    results = report.results
    shown = {column.name for column in SHOWN if not column.folded}
    legend = Panels(report.styles, report.ratios)
    title = {column.name: column.title for column in results.columns}
    have = set(report.scopes.column_names)
    accuracies = [name for name in ("test_accuracy", "forget_accuracy", "retain_accuracy") if name in have]
    glances = [name for name in (*accuracies, "indisc") if name in have]
    panels = {
        "glance": [
            panel_spec(legend.glance(name, title[name], labelled=i == 0), ROW) for i, name in enumerate(glances)
        ],
        "ratio": [panel_spec(legend.against_ratio(name, title[name]), 300) for name in accuracies],
        "frontier": [
            panel_spec(legend.frontier(name, title[name]), 340) for name in FRONTIERS if f"{name}_dominated" in have
        ],
        "budget": [
            panel_spec(legend.along_budget(name, title[name]), 280) for name in accuracies if f"{name}@1" in have
        ],
    }
    names = {style.label: method for style, method in zip(report.styles, style_methods(report), strict=True)}
    return {
        "columns": [
            {
                "name": c.name,
                "title": c.title,
                "direction": c.direction,
                "summary": c.summary,
                "cites": c.cites,
                "share": c.share,
                "shown": c.name in shown,
            }
            for c in results.columns
        ],
        "board": table_payload(board_columns(report)),
        "scopes": table_payload(
            report.scopes.select([name for name in report.scopes.column_names if not unseen(name)]), CHART_DIGITS
        ),
        "noise": noise_payload(report.noise),
        "styles": [
            {
                "label": s.label,
                "colour": s.colour,
                "shape": s.shape,
                "dash": s.dash,
                "control": names[s.label] in CONTROLS,
            }
            for s in report.styles
        ],
        "panels": panels | {"resisting": [panel_spec(legend.resisting(), ROW)] if report.resisting else []},
        "resisting": report.resisting,
        "rerun": rerun_command(results.root, "TRIAL_ID"),
    }


def style_methods(report: Report) -> list[str]:
    """The method of each style."""
    method = dict(zip(report.board["label"].to_pylist(), report.board["method"].to_pylist(), strict=True))
    return [method[style.label] for style in report.styles]


def board_columns(report: Report) -> pa.Table:
    """The leaderboard's rows with their trials, in the order the page opens with: by cell, controls first, then by
    deviation from the retrain."""
    results, board = report.results, report.board
    metrics = [
        *results.metrics,
        *(difference_name(m) for m in ("forget_accuracy",) if difference_name(m) in board.column_names),
    ]
    fixed = [
        "task",
        "model",
        "ratio",
        "method",
        "lr",
        "hyperparameters",
        "options",
        "after",
        "label",
        "control",
        "uses_validation",
        "n",
        "planned",
        "truncated",
        "interval_over",
        "group",
    ]
    board = board.select([*fixed, *(name + edge for name in metrics for edge in ("", "_low", "_high"))])
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
