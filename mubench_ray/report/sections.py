"""Blocks of plain tables for the page: the noise floor and the papers' own tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from mubench_ray.report.report import Report
from mubench_ray.report.summary import number


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first column is the row's name."""

    headers: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """A section of the page: a heading, what it means, its tables."""

    title: str
    note: str
    tables: list[TextTable] = field(default_factory=list)


def fixed(value: float | None, digits: int = 4) -> str:
    """A number with this many decimals, or a dash."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def noise_block(report: Report) -> Block:
    """How far two retrains lie from each other, a row a (task, model, ratio)."""
    title = {column.name: column.title for column in report.results.columns}
    names = [name for name in ("test_accuracy", "forget_accuracy", "retain_accuracy", "u_mia", "indisc", "retention_deviation") if name in report.noise.column_names]
    rows = [
        [f"{row['task']} · {row['model']} · {number(row['ratio'])} %", str(row["retrains"]), *(fixed(row[name]) for name in names)]
        for row in report.noise.to_pylist()
    ]
    return Block(
        "Noise floor: retrain against retrain",
        "Mean absolute difference between two retrains of other seeds on the same forget set (RetDev: one retrain taken as the other's unlearned model). "
        "A method nearer to its retrain than this cannot be told from one.",
        [TextTable(["", "retrains", *(title[name] for name in names)], rows)],
    )
