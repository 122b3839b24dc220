"""Everything the report shows, computed once from a results folder; pages, tables and figures only arrange it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mubench_ray.report.charts import Style, styles
from mubench_ray.report.columns import CONTROLS
from mubench_ray.report.frontier import at_shares, mark_dominated
from mubench_ray.report.load import Results, load
from mubench_ray.report.noise import noise_floor
from mubench_ray.report.scopes import scoped
from mubench_ray.report.summary import measured, summarise

#: Metrics that charts draw; the others are in the table only.
CHARTED = ("test_accuracy", "forget_accuracy", "retain_accuracy", "indisc", "retention_deviation", "flos_share")


@dataclass(frozen=True)
class Report:
    """The leaderboard, the same averaged over scopes with the charted values, the noise floor, and how each contender is drawn."""

    results: Results
    board: pa.Table
    scopes: pa.Table
    noise: pa.Table
    styles: list[Style]

    @property
    def ratios(self) -> list[float]:
        """The ratios of the suite, ascending."""
        return sorted(set(self.board["ratio"].to_pylist()))


def make_report(root: str | Path) -> Report:
    """Compute the report of a results folder; raises ResultsError where it is none."""
    results = load(root)
    board = summarise(results)
    values = {name: column for name, column in measured(results).items() if name in CHARTED} | at_shares(results)
    directions = {column.name: column.direction for column in results.columns}
    scopes = with_offsets(mark_dominated(scoped(results, values), directions)) if len(board) else pa.table({})
    return Report(results, board, scopes, noise_floor(results), styles(contenders(board)))


def contenders(board: pa.Table) -> list[tuple[str, str]]:
    """(label, method) of every contender: the controls first, then by name, so that colours stay when rows are added."""
    pairs = set(zip(board["label"].to_pylist(), board["method"].to_pylist(), strict=True))
    return sorted(pairs, key=lambda pair: (pair[1] not in CONTROLS, pair[1] != "retrain", pair[0].lower()))


def with_offsets(scopes: pa.Table) -> pa.Table:
    """Add ``x``, the ratio moved by at most a fifth of the smallest step between ratios, so that intervals stand side by side."""
    ratio = np.array([float(text) if text != "all" else np.nan for text in scopes["ratio"].to_pylist()])
    known = np.unique(ratio[np.isfinite(ratio)])
    step = np.diff(known).min() if len(known) > 1 else 1.0
    names = sorted({label for label, control in zip(scopes["label"].to_pylist(), scopes["control"].to_pylist(), strict=True) if not control})
    place = {name: (index / max(1, len(names) - 1) - 0.5) * 0.4 if len(names) > 1 else 0.0 for index, name in enumerate(names)}
    x = ratio + step * np.array([place.get(label, 0.0) for label in scopes["label"].to_pylist()])
    return scopes.append_column("x", pa.array(x, from_pandas=True))
