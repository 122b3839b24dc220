"""What stands beside a name or a number that has a caveat: one list of marks, one way to set them, one legend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pyarrow as pa

from mubench_ray.report.columns import Column

#: Stands for "averaged over all of them" in a scope's task, model or ratio.
ALL = "all"


@dataclass(frozen=True)
class Mark:
    """A caveat: the sign that stands in a table, a short name, and what it means."""

    symbol: str
    name: str
    words: str


CONTROL = Mark("°", "control", "control")
READS_VALIDATION = Mark("†", "uses D_V", "reads D_V, which is also the selection set")
TRUNCATED = Mark("‡", "truncated", "trials were stopped by the budget")
UNTRUSTED = Mark("§", "untrusted", "the controls do not bear this measure out")
UNCHECKED = Mark("?", "not checkable", "too few seeds of the controls to check this measure")
WITHIN = Mark("≈", "within the noise floor", "nearer to the retrain than two retrains are to each other")
MARKS = (CONTROL, READS_VALIDATION, TRUNCATED, UNTRUSTED, UNCHECKED, WITHIN)


def legend(texts: Iterable[str]) -> str:
    """What the marks in these texts mean; empty where there are none."""
    there = set().union(*texts)
    return "; ".join(f"{mark.symbol} {mark.words}" for mark in MARKS if mark.symbol in there)


def of_row(row: Mapping[str, Any]) -> str:
    """The marks of a contender in a row of the leaderboard."""
    told = {CONTROL: row["control"], READS_VALIDATION: row["uses_validation"], TRUNCATED: row["truncated"]}
    return "".join(mark.symbol for mark, there in told.items() if there)


class Marks:
    """The marks of a leaderboard (``summarise``): of contenders and of measures, in one (task, model, ratio) or over
    several, where what holds in one of them is told. ``noise`` is that of ``noise_floor``."""

    def __init__(self, board: pa.Table, noise: pa.Table | None = None) -> None:
        self._names: dict[tuple, set[str]] = defaultdict(set)
        self._untrusted: dict[tuple, set[str]] = defaultdict(set)
        names = ("task", "model", "ratio", "label", "control", "uses_validation", "truncated", "untrusted")
        for row in board.select(names).to_pylist():
            symbols, untrusted = of_row(row), row["untrusted"]
            if symbols or untrusted:
                for cell in product(*((row[name], ALL) for name in ("task", "model", "ratio"))):
                    self._names[*cell, row["label"]].update(symbols)
                    self._untrusted[cell].update(untrusted.split(", "))
        floors = noise.to_pylist() if noise is not None else []
        self._floor = {(row["task"], row["model"], row["ratio"]): row for row in floors}

    def name(self, label: str, task: str = ALL, model: str = ALL, ratio: float | str = ALL) -> str:
        """The contender with its marks."""
        there = self._names.get((task, model, _number(ratio), label), ())
        return label + "".join(mark.symbol for mark in MARKS if mark.symbol in there)

    def measure(self, metric: str, task: str = ALL, model: str = ALL, ratio: float | str = ALL) -> str:
        """The marks of a measure."""
        return UNTRUSTED.symbol if metric in self._untrusted.get((task, model, _number(ratio)), ()) else ""

    def value(self, row: Mapping[str, Any], column: Column) -> str:
        """The marks of a value in a row of the leaderboard."""
        floor = self._floor.get((row["task"], row["model"], row["ratio"]), {}).get(column.of)
        within = None not in (floor, row[column.name]) and abs(row[column.name]) <= floor + 1e-12
        return self.measure(column.name, row["task"], row["model"], row["ratio"]) + WITHIN.symbol * within


def _number(ratio: float | str) -> float | str:
    return ratio if ratio == ALL else float(ratio)
