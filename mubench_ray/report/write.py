"""Write a report: the page, the CSV, the figures, each whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mubench_ray.report.columns import CONTROLS
from mubench_ray.report.figures import figures, png
from mubench_ray.report.page import render
from mubench_ray.report.report import make_report
from mubench_ray.report.summary import number

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


def summary_rows(root: str | Path) -> list[dict[str, str]]:
    """The leaderboard in short, as texts under their headings, for a table on the screen.

    Values are ``mean ± half the 95% interval`` (the mean alone where one seed gives no interval, a dash where no trial was usable); controls come first
    in each (task, model, ratio).
    """
    report = make_report(root)
    title = {column.name: column for column in report.results.columns}
    shown = [name for name in ("test_accuracy", "forget_accuracy", "retain_accuracy", "u_mia", "retention_deviation", "flos_share") if name in title]
    rows = []
    for row in report.board.append_column("later", pc.cast(pc.invert(report.board["control"]), pa.int8())).sort_by(
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
