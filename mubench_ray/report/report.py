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
from mubench_ray.report.columns import Column, averaged, shown_in
from mubench_ray.report.comparison import compare
from mubench_ray.report.frontier import at_shares, mark_dominated
from mubench_ray.report.histograms import histograms
from mubench_ray.report.load import Results, load
from mubench_ray.report.marks import ALL, Marks, listed
from mubench_ray.report.noise import noise_floor
from mubench_ray.report.resisting import resisting
from mubench_ray.report.scopes import scoped
from mubench_ray.report.styles import Style, styles
from mubench_ray.report.summary import CELL, LINE, ordered, summarise
from mubench_ray.trial import CONTROLS


@dataclass(frozen=True)
class Report:
    """The leaderboard, the same averaged over scopes with the charted values, the noise floor, the marks of all of them,
    how each contender is drawn, the examples that resist forgetting, and the rows of the charts of U-LiRA, deletion
    capacity and scaling."""

    results: Results
    board: pa.Table
    scopes: pa.Table
    noise: pa.Table
    marks: Marks
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
    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard's rows, ``ordered``."""
        return ordered(self.board)


def make_report(root: str | Path) -> Report:
    """Compute the report of a results folder; raises ResultsError where it is none."""
    results = load(root)
    board, noise = with_groups(summarise(results), results), noise_floor(results)
    marks = Marks(board, noise)
    board = with_within(board, results.columns, marks)
    values = {column.name: results.values(column.name) for column in results.columns if averaged(column)}
    scopes = pa.table({})
    if len(board):
        scopes = with_offsets(mark_dominated(scoped(results, values, at_shares(results)), results.columns))
        scopes = with_marks(scopes, results.columns, marks)
    return Report(
        results,
        board,
        scopes,
        noise,
        marks,
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
    untrusted = [bool(by) and by[0].name in listed(names) for names in board["untrusted"].to_pylist()]
    keys = (tuple(row.values()) for row in board.select(LINE).to_pylist())
    rows = [{} if left_out else found.get(key, {}) for key, left_out in zip(keys, untrusted, strict=True)]
    board = board.append_column("group", pa.array([row.get("group", "") for row in rows], pa.string()))
    return board.append_column(
        "told_from_retrain", pa.array([row.get("told_from_retrain") for row in rows], pa.bool_())
    )


def with_within(board: pa.Table, columns: list[Column], marks: Marks) -> pa.Table:
    """Add ``within``: the differences to the retrain that lie within the noise floor, each row's."""
    differences = [column for column in columns if column.of and column.name in board.column_names]
    edges = [column.name + edge for column in differences for edge in ("_low", "_high")]
    rows = board.select([*CELL, "method", *edges]).to_pylist()
    found = [", ".join(column.name for column in differences if marks.within(row, column)) for row in rows]
    return board.append_column("within", pa.array(found, pa.string()))


def with_marks(scopes: pa.Table, columns: list[Column], marks: Marks) -> pa.Table:
    """Add what stands beside the names and numbers of ``scoped``: ``marks`` of the contender, ``<metric>_marks``. What is
    untrusted puts nobody on the frontier and nobody off it: ``<metric>_dominated`` is null there, and nobody is named."""
    rows = scopes.select([*CELL, "label"]).to_pylist()
    scope = [(row["task"], row["model"], row["ratio"]) for row in rows]
    names = [marks.name(row["label"], *of)[len(row["label"]) :] for row, of in zip(rows, scope, strict=True)]
    scopes = scopes.append_column("marks", pa.array(names, pa.string()))
    for name in (column.name for column in columns if column.name in scopes.column_names):
        of_scope = {of: marks.measure(name, *of) for of in set(scope)}
        scopes = scopes.append_column(f"{name}_marks", pa.array([of_scope[of] for of in scope], pa.string()))
        ranks = {of: marks.ranks(name, *of) for of in of_scope}
        ranked = pa.array([ranks[of] for of in scope])
        for flag in [
            flag for flag in scopes.column_names if flag.startswith((f"{name}_dominated", f"{name}_labelled"))
        ]:
            otherwise = pa.scalar(None if "_dominated" in flag else False, pa.bool_())
            made = pc.call_function("if_else", [ranked, scopes[flag], otherwise])
            scopes = scopes.set_column(scopes.schema.get_field_index(flag), flag, made)
    return scopes


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
