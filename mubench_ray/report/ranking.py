"""Deep Unlearn's ranking (arXiv 2410.01276, section 4): how often a method is among the best, the average, the worst,
or failed.

In each combination, a (task, model, ratio), the contenders' mean scores are clustered agglomeratively into G1 (best),
G2, G3 (worst); F is a contender with fewer usable models than the combination asks for. Contenders are ordered by #G1,
then #G2, then #G3, and equal counts share a rank.

The paper leaves linkage and cut-off open. Here: average linkage on the scores, cut at three clusters, or at fewer where
clusters lie nearer to each other than the retrain-against-retrain noise floor (two retrains would be "different groups"
otherwise); the required number of models is what the combination planned for its best-staffed contender. Controls do
not take part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.cluster.hierarchy import fcluster, linkage

from mubench_ray.report.summary import CELL

GROUPS = 3


@dataclass(frozen=True)
class Standing:
    """A contender's counts over all combinations, and its rank (1 is best; equal counts share it)."""

    label: str
    g1: int
    g2: int
    g3: int
    failed: int
    rank: int = 0

    @property
    def counts(self) -> tuple[int, int, int]:
        """What the order looks at."""
        return self.g1, self.g2, self.g3


def cluster(scores: np.ndarray, higher: bool, floor: float = 0.0) -> np.ndarray:
    """Group 1..3 of each of ``scores`` (n,), 1 the best; ``higher`` says which end that is.

    Clusters whose average distance is at most ``floor`` are one; equal scores always are.
    """
    if len(scores) < 2:
        return np.ones(len(scores), int)
    merges = linkage(np.asarray(scores, float)[:, None], method="average")
    heights = merges[:, 2]
    cut = max(floor, heights[-GROUPS] if len(heights) >= GROUPS else 0.0)
    found = fcluster(merges, t=cut, criterion="distance")
    centre = {name: scores[found == name].mean() for name in np.unique(found)}
    order = sorted(centre, key=centre.__getitem__, reverse=higher)
    place = {name: index + 1 for index, name in enumerate(order)}
    return np.array([place[name] for name in found])


def order(standings: Iterable[Standing]) -> list[Standing]:
    """Sorted by #G1, #G2, #G3, most first; equal counts share a rank and keep the order of their names."""
    ranked: list[Standing] = []
    for standing in sorted(standings, key=lambda s: (*(-count for count in s.counts), s.label.lower())):
        same = bool(ranked) and ranked[-1].counts == standing.counts
        rank = ranked[-1].rank + (not same) if ranked else 1
        ranked.append(Standing(standing.label, standing.g1, standing.g2, standing.g3, standing.failed, rank))
    return ranked


def rank(board: pa.Table, noise: pa.Table, metric: str, higher: bool) -> list[Standing]:
    """Standings by ``metric`` from the leaderboard (``summarise``) and the noise floor (``noise_floor``); empty where
    nothing has the metric."""
    if metric not in board.column_names:
        return []
    floors = {tuple(row[name] for name in CELL): row.get(metric) or 0.0 for row in noise.to_pylist()}
    cells: dict[tuple, list[dict]] = defaultdict(list)
    for row in board.select([*CELL, "label", "control", "n", "planned", metric]).to_pylist():
        if not row["control"]:
            cells[tuple(row[name] for name in CELL)].append(row)
    tally: dict[str, Counter] = defaultdict(Counter)
    for cell, rows in cells.items():
        required = max(row["planned"] for row in rows)
        usable = [row for row in rows if row["n"] >= required and row[metric] is not None]
        for row in rows:
            tally[row["label"]]["f"] += row not in usable
        groups = cluster(np.array([row[metric] for row in usable]), higher, floors.get(cell, 0.0))
        for row, group in zip(usable, groups, strict=True):
            tally[row["label"]][int(group)] += 1
    return order(Standing(label, of[1], of[2], of[3], of["f"]) for label, of in tally.items())
