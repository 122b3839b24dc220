"""Which contenders are best at the edge of what was tried: further out they may be better."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mubench_ray.metrics.selection import OBJECTIVES
from mubench_ray.report.load import Results
from mubench_ray.results.marks import chosen_at_edge
from mubench_ray.results.store import Store

#: Fewest learning rates of a suite without a search that are a grid: of two each is an edge.
GRID = 3


def at_edges(results: Results, lines: pa.Table, means: Mapping[str, np.ndarray]) -> pa.Array:
    """What of each line (N,) lies at an edge, as ``lr, std``; empty where nothing does.

    Of what a search chose it is what ``search/chosen.json`` says. Of a suite that ran a grid of learning rates without a search: the line that is best by
    the objectives of a search, which never read D_Test (``means``, (N,) each), where its learning rate is the grid's first or last.
    """
    chosen = chosen_at_edge(Store(results.root))
    rows = lines.select(["configuration", "ratio"]).to_pylist()
    found = [", ".join(chosen.get((row["configuration"], row["ratio"]), ())) for row in rows]
    for place in best_of_grids(results, lines, means):
        found[place] = found[place] or "lr"
    return pa.array(found, pa.string())


def best_of_grids(results: Results, lines: pa.Table, means: Mapping[str, np.ndarray]) -> list[int]:
    """The lines that are the best of their grid of learning rates, and at an end of it."""
    if any(name not in means for name in OBJECTIVES):
        return []
    signs = {name: -1.0 if results.column[name].direction == "higher" else 1.0 for name in OBJECTIVES}
    loss = np.sum([signs[name] * weight * means[name] for name, weight in OBJECTIVES.items()], axis=0)
    grids: dict[tuple, list[int]] = defaultdict(list)
    alike = ["task", "model", "ratio", "method", "hyperparameters", "options", "after"]
    for place, row in enumerate(lines.select([*alike, "lr", "configuration"]).to_pylist()):
        if row["lr"] is not None and '"tuned":' not in row["configuration"]:
            grids[tuple(row[name] for name in alike)].append(place)
    rates = np.array([np.nan if lr is None else lr for lr in lines["lr"].to_pylist()])
    return [best for grid in grids.values() if (best := _at_end(grid, rates, loss)) is not None]


def _at_end(grid: Sequence[int], rates: np.ndarray, loss: np.ndarray) -> int | None:
    known: list[Any] = [place for place in grid if np.isfinite(loss[place])]
    if len(set(rates[known])) < GRID:
        return None
    best = min(known, key=lambda place: (loss[place], place))
    return best if rates[best] in (min(rates[list(grid)]), max(rates[list(grid)])) else None
