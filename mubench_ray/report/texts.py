"""Tables of texts, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mubench_ray.report.columns import Column
from mubench_ray.results.configurations import spoken
from mubench_ray.results.marks import TRUNCATED, legend

NOTHING = "–"


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first column is the row's name. ``said`` is read before its numbers; columns headed by one of
    ``prose`` hold sentences, in which a question mark is no mark."""

    headers: list[str]
    rows: list[list[str]]
    caption: str = ""
    said: str = ""
    prose: tuple[str, ...] = ()

    @property
    def legend(self) -> str:
        """What the marks in it mean."""
        marked = [place for place, name in enumerate(self.headers) if name not in self.prose]
        return legend([self.caption, *self.headers, *(row[place] for row in self.rows for place in marked)])


@dataclass(frozen=True)
class Block:
    """A section of the page: a heading, what it means, its tables."""

    title: str
    note: str
    tables: list[TextTable] = field(default_factory=list)


def cell_name(row: Mapping[str, Any], mark: str = "") -> str:
    """A (task, model, ratio) as one text."""
    return f"{row['task']} · {row['model']} · {spoken(row['ratio'])} %{mark}"


def trial_count(row: Mapping[str, Any]) -> str:
    """``5``, or ``4 of 5`` where a trial was not usable, with how many of them were truncated."""
    count = str(row["n"]) if row["n"] == row["planned"] else f"{row['n']} of {row['planned']}"
    return f"{count} ({row['truncated']}{TRUNCATED.symbol})" if row["truncated"] else count


def with_doubt(mean: float | None, low: float | None, high: float | None, share: bool = False, marks: str = "") -> str:
    """``0.981 ± 0.004`` (the longer arm of the interval), the mean alone without an interval, a dash without a mean; in
    percent for a ``share``; ``marks`` stand beside the mean."""
    if mean is None:
        return NOTHING
    scale, digits, unit = (100, 1, " %") if share else (1, 3, "")
    text = f"{scale * mean:.{digits}f}{marks}"
    return (
        text + unit
        if low is None or high is None
        else f"{text} ± {scale * longer_arm(mean, low, high):.{digits}f}{unit}"
    )


def longer_arm(mean: float, low: float, high: float) -> float:
    """What stands behind a ±: of an interval that leans to one side, as all do near 0 and 1, half the width would leave
    out the end of the longer arm."""
    return max(high - mean, mean - low)


def doubted(row: Mapping[str, Any], column: Column, marks: str = "") -> str:
    """A value in a row of the leaderboard, with its doubt and its marks."""
    mean, low, high = (row[f"{column.name}{edge}"] for edge in ("", "_low", "_high"))
    return with_doubt(mean, low, high, column.format == "share", marks)


def fixed(value: float | None, digits: int = 4) -> str:
    """A number with this many decimals, or a dash."""
    return NOTHING if value is None or value != value else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None or seconds != seconds:
        return NOTHING
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2f} s"


def written(row: Mapping[str, Any], column: Column, marks: str = "") -> str:
    """A value in a row of the scopes as its column says, with its doubt and its marks."""
    if column.format == "share":
        return doubted(row, column, marks)
    mean, low, high = (row[f"{column.name}{edge}"] for edge in ("", "_low", "_high"))

    def said(value: float | None) -> str:
        return duration(value) if column.format == "duration" else fixed(value, 2 if column.format == "times" else 4)

    return said(mean) + marks + ("" if None in (mean, low, high) else f" ± {said(longer_arm(mean, low, high))}")
