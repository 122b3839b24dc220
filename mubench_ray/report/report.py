"""Everything the report shows, computed once from a results folder; pages, tables and figures only arrange it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.report.capacity import capacities, scaling
from mubench_ray.report.columns import averaged, shown_in
from mubench_ray.report.comparison import compare
from mubench_ray.report.frontier import at_shares, mark_dominated
from mubench_ray.report.histograms import histograms
from mubench_ray.report.load import Results, load
from mubench_ray.report.marks import ALL, Marks
from mubench_ray.report.noise import noise_floor
from mubench_ray.report.resisting import resisting
from mubench_ray.report.scopes import scoped
from mubench_ray.report.styles import Style, styles
from mubench_ray.report.summary import LINE, ordered, summarise
from mubench_ray.trial import CONTROLS


@dataclass(frozen=True)
class Report:
    """The leaderboard, the same averaged over scopes with the charted values, the noise floor, how each contender is
    drawn, the examples that resist forgetting, and the rows of the charts of U-LiRA, deletion capacity and scaling."""

    results: Results
    board: pa.Table
    scopes: pa.Table
    noise: pa.Table
    styles: list[Style]
    resisting: list[dict[str, Any]]
    histograms: pa.Table
    capacities: list[dict[str, Any]]
    scaling: list[dict[str, Any]]

    @property
    def ratios(self) -> list[float]:
        """The ratios of the suite, ascending."""
        return sorted(set(self.board["ratio"].to_pylist()))

    @cached_property
    def marks(self) -> Marks:
        """What stands beside its names and numbers."""
        return Marks(self.board, self.noise)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard's rows, ``ordered``."""
        return ordered(self.board)


def make_report(root: str | Path) -> Report:
    """Compute the report of a results folder; raises ResultsError where it is none."""
    results = load(root)
    board = with_groups(summarise(results), results)
    values = {column.name: results.values(column.name) for column in results.columns if averaged(column)}
    scopes = pa.table({})
    if len(board):
        scopes = with_offsets(mark_dominated(scoped(results, values, at_shares(results)), results.columns))
    return Report(
        results,
        board,
        scopes,
        noise_floor(results),
        styles(contenders(board)),
        resisting(results),
        histograms(results),
        capacities(results),
        scaling(results),
    )


def with_groups(board: pa.Table, results: Results) -> pa.Table:
    """Add ``group``, the letters by the measure that contenders are told apart by, and ``told_from_retrain``, whether
    they are told apart from a retrain by it; neither where the controls do not bear it out."""
    by = shown_in("letters", results.columns)
    compared = compare(results, by[0].name, by[0].direction == "higher").to_pylist() if by and len(board) else []
    found = {tuple(row[name] for name in LINE): row for row in compared}
    untrusted = [bool(by) and by[0].name in names.split(", ") for names in board["untrusted"].to_pylist()]
    keys = (tuple(row.values()) for row in board.select(LINE).to_pylist())
    rows = [{} if left_out else found.get(key, {}) for key, left_out in zip(keys, untrusted, strict=True)]
    board = board.append_column("group", pa.array([row.get("group", "") for row in rows], pa.string()))
    return board.append_column(
        "told_from_retrain", pa.array([row.get("told_from_retrain") for row in rows], pa.bool_())
    )


def contenders(board: pa.Table) -> list[tuple[str, str]]:
    """(label, method) of every contender: the controls first, then by name, so that colours stay when rows are
    added."""
    pairs = set(zip(board["label"].to_pylist(), board["method"].to_pylist(), strict=True))
    return sorted(pairs, key=lambda pair: (pair[1] not in CONTROLS, pair[1] != "retrain", pair[0].lower()))


def with_offsets(scopes: pa.Table) -> pa.Table:
    """Add ``x``, the ratio moved by at most a fifth of the smallest step between ratios, so that intervals stand side
    by side."""
    ratio = np.array([float(text) if text != ALL else np.nan for text in scopes["ratio"].to_pylist()])
    known = np.unique(ratio[np.isfinite(ratio)])
    step = np.diff(known).min() if len(known) > 1 else 1.0
    names = sorted(scopes.filter(~pc.field("control"))["label"].unique().to_pylist())
    place = {
        name: (index / max(1, len(names) - 1) - 0.5) * 0.4 if len(names) > 1 else 0.0
        for index, name in enumerate(names)
    }
    x = ratio + step * np.array([place.get(label, 0.0) for label in scopes["label"].to_pylist()])
    return scopes.append_column("x", pa.array(x, from_pandas=True))
