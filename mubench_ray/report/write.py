"""Write a report: the page, the CSV, the figures, each whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mubench_ray.report.charts import Panels, figure_spec
from mubench_ray.report.columns import CONTROLS
from mubench_ray.report.frontier import CURVES_SHOWN, FRONTIERS, SHARES
from mubench_ray.report.page import render
from mubench_ray.report.report import Report, make_report
from mubench_ray.report.scopes import ALL
from mubench_ray.report.summary import number

#: Figures are drawn for the average and for this many (task, model) pairs at most; the page has them all.
FIGURES = 12


def write_report(root: str | Path) -> Path:
    """Write ``<root>/report``: ``leaderboard.html``, ``leaderboard.csv`` and ``figures/*.png``; returns the page's path.

    Works at any moment of a run and on an empty folder; raises ResultsError where ``root`` is no results folder or cannot be written.
    """
    report = make_report(root)
    folder = Path(root) / "report"
    save(folder / "leaderboard.csv", csv(report.board))
    for name, spec in figures(report):
        save(folder / "figures" / f"{name}.png", png(spec))
    page = folder / "leaderboard.html"
    save(page, render(report, []).encode())
    return page


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; raises ResultsError naming it."""
    from mubench_ray.errors import ResultsError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ResultsError(f"{path} cannot be written ({error.strerror or error}).") from error


def csv(board: pa.Table) -> bytes:
    """The leaderboard as CSV: full precision, an empty field where there is no value."""
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(board, buffer)
    return buffer.getvalue()


def png(spec: dict[str, Any]) -> bytes:
    """A spec drawn at twice the screen's resolution."""
    import vl_convert

    return vl_convert.vegalite_to_png(spec, scale=2)


def figures(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file name, spec) of every figure."""
    scopes = report.scopes
    if not len(scopes):
        return
    have = set(scopes.column_names)
    panels = Panels(report.styles, report.ratios, legend=True)
    title = {column.name: column.title for column in report.results.columns}
    rows = [row for row in scopes.to_pylist() if row["n"]]
    pairs = sorted({(row["task"], row["model"]) for row in rows if ALL not in (row["task"], row["model"])})
    several = len(pairs) > 1
    ratios = sorted({row["ratio"] for row in rows} - {ALL}, key=float)
    for task, model in ([(ALL, ALL)] if several else []) + pairs[:FIGURES]:
        of = [row for row in rows if (row["task"], row["model"]) == (task, model)]
        stem = "average" if task == ALL else safe(f"{task}-{model}")
        where = f"average of {len(pairs)} (task, model) pairs" if task == ALL else f"{task}, {model}"
        at = [row for row in of if row["ratio"] == (ALL if len(ratios) > 1 else ratios[0])]
        averaged = f", average of {len(ratios)} ratios" if len(ratios) > 1 else f", {ratios[0]} %"
        accuracies = [name for name in CURVES_SHOWN if name in have]
        if len(ratios) > 1:
            by_ratio = [row for row in of if row["ratio"] != ALL]
            yield f"against-ratio-{stem}", figure_spec([panels.against_ratio(n, title[n]) for n in accuracies], by_ratio, where, 300, 260)
        height = 40 + 22 * len(report.styles)
        glance = [panels.glance(n, title[n], i == 0) for i, n in enumerate([*accuracies, *(["indisc"] if "indisc" in have else [])])]
        yield f"glance-{stem}", figure_spec(glance, at, where + averaged, 210, height, columns=4)
        scores = [panels.frontier(n, title[n]) for n in FRONTIERS if f"{n}_dominated" in have]
        if scores and any((row.get("flos_share") or 0) > 0 for row in at):
            yield f"frontier-{stem}", figure_spec(scores, at, where + averaged, 400, 300)
        curves = [panels.along_budget(n, title[n]) for n in accuracies if f"{n}@1" in have]
        if curves:
            yield f"budget-{stem}", figure_spec(curves, budget_rows(at), where + averaged, 300, 260)


def budget_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a share of the retrain's FLOs out of the ``<metric>@<share>`` columns."""
    melted = []
    for row in rows:
        for share in SHARES:
            point = {name: row[name] for name in ("label", "method", "ratio", "n")} | {"share": round(100 * share, 4), "spent": row[f"spent@{share:g}"]}
            for metric in CURVES_SHOWN:
                point |= {metric + edge: row[f"{metric}@{share:g}{edge}"] for edge in ("", "_low", "_high")}
            melted.append(point)
    return melted


def safe(text: str) -> str:
    """A text as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)


def summary_rows(root: str | Path) -> list[dict[str, str]]:
    """The leaderboard in short, as texts under their headings, for a table on the screen.

    Values are ``mean ± half the 95% interval`` (the mean alone where one seed gives no interval, a dash where no trial was usable); controls come first
    in each (task, model, ratio).
    """
    report = make_report(root)
    title = {column.name: column for column in report.results.columns}
    shown = [name for name in ("test_accuracy", "forget_accuracy", "retain_accuracy", "u_mia", "retention_deviation", "flos_share") if name in title]
    rows = []
    for row in report.board.append_column("later", pc.invert(report.board["control"])).sort_by(
        [(name, "ascending") for name in ("task", "model", "ratio", "later", "label")]
    ).to_pylist():
        made = {"task": row["task"], "model": row["model"], "method": row["label"] + (" (control)" if row["method"] in CONTROLS else "")}
        made["ratio"] = f"{number(row['ratio'])} %"
        for name in shown:
            made[title[name].title] = with_doubt(row[name], row[f"{name}_low"], row[f"{name}_high"], 100 if title[name].share else 1)
        made["trials"] = str(row["n"]) if row["n"] == row["planned"] else f"{row['n']} of {row['planned']}"
        rows.append(made)
    return rows


def with_doubt(mean: float | None, low: float | None, high: float | None, scale: int = 1) -> str:
    """``0.981 ± 0.004``; percent with one decimal where ``scale`` is 100."""
    if mean is None:
        return "–"
    digits, unit = (1, " %") if scale == 100 else (3, "")
    if low is None or high is None:
        return f"{scale * mean:.{digits}f}{unit}"
    return f"{scale * mean:.{digits}f} ± {scale * (high - low) / 2:.{digits}f}{unit}"
