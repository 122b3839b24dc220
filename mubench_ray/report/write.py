"""Write a report: the page, the CSV, the figures, each whole or not at all."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from mubench_ray.errors import ResultsError, message_of
from mubench_ray.files import write
from mubench_ray.report.columns import shown_in
from mubench_ray.report.figures import figures, missing, png
from mubench_ray.report.load import load
from mubench_ray.report.marks import TOLD, Marks, listed
from mubench_ray.report.noise import noise_floor
from mubench_ray.report.page import render
from mubench_ray.report.report import Report, make_report
from mubench_ray.report.sections import blocks
from mubench_ray.report.summary import ordered, summarise
from mubench_ray.report.tables import OF_MEASURES, hub_json, latex, markdown, paper_tables
from mubench_ray.report.texts import doubted, trial_count
from mubench_ray.results.configurations import spoken
from mubench_ray.results.marks import cell_words, of_name, symbols


class NotDrawn(UserWarning):
    """Something of a report could not be drawn; the rest of it is there."""


def write_report(root: str | Path) -> Path:
    """Write ``<root>/report``: ``leaderboard.html`` / ``.csv`` / ``.json``, ``tables.md`` / ``.tex`` and
    ``figures/*.png``.

    Returns the page's path.

    Works at any moment of a run and on an empty folder; raises ResultsError where ``root`` is no results folder or
    cannot be written. What cannot be drawn, and so is missing in it, is a warning, ``NotDrawn``.
    """
    report = make_report(root)
    shown = blocks(report)
    tables = list(paper_tables(report, shown))
    folder = Path(root) / "report"
    save(folder / "leaderboard.csv", csv(marked(report.board, report)))
    save(folder / "leaderboard.json", hub_json(report).encode())
    save(folder / "tables.md", markdown(report, tables).encode())
    save(folder / "tables.tex", latex(report, tables).encode())
    page = folder / "leaderboard.html"
    save(page, render(report, shown).encode())
    if reason := missing():
        warnings.warn(
            NotDrawn(
                f"{folder} has no figures and its page no charts: {reason}, and `mubench report {root}` draws them."
            ),
            stacklevel=2,
        )
        return page
    for name, spec in figures(report):
        try:
            drawn = png(spec)
        except BaseException as error:  # vl-convert raises ValueErrors, and panics, which are no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            reason = message_of(error)[:200]
            warnings.warn(NotDrawn(f"{folder}/figures/{name}.png could not be drawn: {reason}."), stacklevel=2)
            continue
        save(folder / "figures" / f"{name}.png", drawn)
    return page


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; raises ResultsError naming it."""
    try:
        write(path, content)
    except OSError as error:
        raise ResultsError(f"{path} cannot be written ({error.strerror or error}).") from error


def marked(board: pa.Table, report: Report) -> pa.Table:
    """The leaderboard with the marks of each name in a column ``marks`` beside it and those of each number in
    ``<metric>_marks`` beside the number."""
    rows = board.select([*{*TOLD, *OF_MEASURES}]).to_pylist()
    columns: dict[str, Any] = {name: board[name] for name in board.column_names}
    added = {"label": ("marks", [", ".join(mark.name for mark in of_name(row)) for row in rows])}
    lists = {name: [listed(row[name]) for row in rows] for name in OF_MEASURES}
    for metric in (column.name for column in report.results.columns if column.name in columns):
        found = zip(*lists.values(), strict=True)
        texts = [", ".join(mark.name for mark, of in zip(OF_MEASURES.values(), row) if metric in of) for row in found]
        added[metric] = f"{metric}_marks", texts
    made: dict[str, Any] = {}
    for name, column in columns.items():
        made[name] = column
        if name in added:
            beside, texts = added[name]
            made[beside] = pa.array(texts, pa.string())
    return pa.table(made)


def csv(board: pa.Table) -> bytes:
    """The leaderboard as CSV: full precision, an empty field where there is no value."""
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(board, buffer)
    return buffer.getvalue()


def summary_rows(root: str | Path) -> list[dict[str, str]]:
    """``summary`` without what is read before it."""
    return summary(root)[1]


def summary(root: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """What is to be read before any number (a line for each task, model and ratio whose original and retrain are not told
    apart), and the leaderboard in short, as texts under their headings, for a table on the screen.

    Values are ``mean ± the longer arm of the 95% interval`` (the mean alone where one seed gives no interval, a dash where no trial
    was usable); controls come first in each (task, model, ratio). ``legend`` of the texts says what their marks mean.
    """
    results = load(root)
    columns, board = shown_in("screen", results.columns), summarise(results)
    rows, marks = [], Marks(board, noise_floor(results))
    for row in ordered(board):
        shown = {
            "task": row["task"],
            "model": row["model"],
            "method": row["label"] + symbols(of_name(row)),
            "ratio": f"{spoken(row['ratio'])} %{marks.cell(row['task'], row['model'], row['ratio'])}",
        }
        shown |= {column.title: doubted(row, column, marks.value(row, column)) for column in columns}
        rows.append(shown | {"trials": trial_count(row)})
    return cell_words(marks.untold), rows
