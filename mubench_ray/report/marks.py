"""The marks of a leaderboard: what stands beside names, measures and numbers, in one (task, model, ratio) or over several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from typing import Any

import pyarrow as pa

from mubench_ray.report.columns import Column
from mubench_ray.report.summary import CELL
from mubench_ray.results.marks import UNCHECKED, UNTOLD, UNTRUSTED, WITHIN, Mark, cell_words, of_name, symbols

#: Stands for "averaged over all of them" in a scope's task, model or ratio.
ALL = "all"
#: Cells that are named before the numbers of a scope; of more it is said how many they are.
SAID = 2
#: What a row of the leaderboard says of its marks.
TOLD = (
    *(*CELL, "label", "method", "options", "uses_validation", "unequal_terms", "truncated", "at_edge"),
    *("on_selection_seeds", "untrusted", "unchecked", "not_told_apart"),
)


class Marks:
    """The marks of a leaderboard (``summarise``); over several cells what holds in one of them is told. ``noise`` is that
    of ``noise_floor``."""

    def __init__(self, board: pa.Table, noise: pa.Table | None = None) -> None:
        self._names: dict[tuple, set[Mark]] = defaultdict(set)
        self._measures: dict[tuple, dict[str, set[Mark]]] = defaultdict(lambda: defaultdict(set))
        self._untold: set[tuple] = set()
        #: What is said first of a (task, model, ratio), of those of which something is.
        self.untold: dict[tuple, str] = {}
        seen = set()
        for row in board.select(TOLD).to_pylist():
            scopes = [*product(*((row[name], ALL) for name in CELL))]
            for scope in scopes if (found := of_name(row)) else ():
                self._names[*scope, row["label"]].update(found)
            if (cell := tuple(row[name] for name in CELL)) in seen:
                continue
            seen.add(cell)
            for scope in scopes:
                for mark, names in ((UNTRUSTED, row["untrusted"]), (UNCHECKED, row["unchecked"])):
                    for name in listed(names):
                        self._measures[scope][name].add(mark)
            if row["not_told_apart"]:
                self._untold.update(scopes)
                self.untold[cell] = row["not_told_apart"]
        floors = noise.to_pylist() if noise is not None else []
        self._floor = {tuple(row[name] for name in CELL): row for row in floors}

    def name(self, label: str, task: str = ALL, model: str = ALL, ratio: float | str = ALL) -> str:
        """The contender with its marks."""
        return label + symbols(self._names.get((task, model, _number(ratio), label), ()))

    def measure(self, metric: str, task: str = ALL, model: str = ALL, ratio: float | str = ALL) -> str:
        """The marks of a measure."""
        return symbols(self._measures.get((task, model, _number(ratio)), {}).get(metric, ()))

    def cell(self, task: str, model: str = ALL, ratio: float | str = ALL) -> str:
        """The mark of a (task, model, ratio) in which original and retrain are not told apart."""
        return UNTOLD.symbol if (task, model, _number(ratio)) in self._untold else ""

    def said(self, task: str = ALL, model: str = ALL, ratio: float | str = ALL) -> str:
        """What is to be read before any number of a scope: where in it original and retrain are not told apart."""
        scope = task, model, _number(ratio)
        cells = {cell: words for cell, words in self.untold.items() if all(s in (c, ALL) for s, c in zip(scope, cell))}
        if len(cells) <= SAID:
            return " ".join(f"{UNTOLD.symbol} {line}" for line in cell_words(cells))
        return f"{UNTOLD.symbol} in {len(cells)} (task, model, ratio) {UNTOLD.words}; their own tables say more."

    def ranks(self, metric: str, task: str = ALL, model: str = ALL, ratio: float | str = ALL) -> bool:
        """Whether anything may be ordered by this measure: not where the controls do not bear it out."""
        return UNTRUSTED.symbol not in self.measure(metric, task, model, ratio)

    def within(self, row: Mapping[str, Any], column: Column) -> bool:
        """Whether a difference to the retrain, in a row of the leaderboard, is smaller than that of two retrains: its
        whole interval is. A mean near 0 with a wide interval says nothing, and one seed has no interval; a retrain's own
        difference is no finding."""
        floor = self._floor.get(tuple(row[name] for name in CELL), {}).get(column.of)
        low, high = (row.get(f"{column.name}{edge}") for edge in ("_low", "_high"))
        return (
            row["method"] != "retrain"
            and None not in (floor, low, high)
            and -floor - 1e-12 <= low
            and high <= floor + 1e-12
        )

    def value(self, row: Mapping[str, Any], column: Column) -> str:
        """The marks of a value in a row of the leaderboard; a difference has those of what it is of."""
        there = self.measure(column.of or column.name, row["task"], row["model"], row["ratio"])
        return there + WITHIN.symbol * self.within(row, column)


def listed(names: str) -> list[str]:
    """The measures that a column of the leaderboard lists."""
    return [name for name in names.split(", ") if name]


def _number(ratio: float | str) -> float | str:
    return ratio if ratio == ALL else float(ratio)
