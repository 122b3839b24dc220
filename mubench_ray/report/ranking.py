"""Deep Unlearn's ranking (arXiv 2410.01276, section 4): how often a method is among the best, the average, the worst,
or failed.

In each combination, a (task, model, ratio), the contenders' mean scores are clustered agglomeratively into G1 (best),
G2, G3 (worst); F is a contender with fewer usable models than the combination asks for. One that has them all and no
score, since the score is not defined there (of a forgotten class, of a language model, of too few examples), is n/a: it
did not fail. Contenders are ordered by #G1, then #G2, then #G3, and equal counts share a rank. A combination whose
controls do not bear the score out is left out: what is untrusted ranks nothing.

The paper leaves linkage and cut-off open. Here: average linkage on the scores, cut at three clusters, or at fewer where
clusters lie nearer to each other than the retrain-against-retrain noise floor (two retrains would be "different groups"
otherwise); the required number of models is what the combination planned for its best-staffed contender. Controls do
not take part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from scipy.cluster.hierarchy import fcluster, linkage

from mubench_ray.report.columns import Column, shown_in
from mubench_ray.report.marks import listed
from mubench_ray.report.report import Report
from mubench_ray.report.summary import CELL
from mubench_ray.report.texts import NOTHING, Block, TextTable, cell_name
from mubench_ray.results.marks import UNCHECKED, UNTRUSTED
from mubench_ray.trial import UNRANKED

GROUPS = 3
#: Combinations that are left out by name; of more the others are counted.
NAMED = 5


@dataclass(frozen=True)
class Standing:
    """A contender's counts over all combinations, and its rank (1 is best; equal counts share it)."""

    label: str
    g1: int
    g2: int
    g3: int
    failed: int
    undefined: int = 0
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
        ranked.append(replace(standing, rank=ranked[-1].rank + (not same) if ranked else 1))
    return ranked


def rank(board: pa.Table, noise: pa.Table, metric: str, higher: bool) -> list[Standing]:
    """Standings by ``metric`` from the leaderboard (``summarise``) and the noise floor (``noise_floor``), over the
    combinations in which the metric is not untrusted; empty where nothing has the metric."""
    if metric not in board.column_names:
        return []
    floors = {tuple(row[name] for name in CELL): row.get(metric) or 0.0 for row in noise.to_pylist()}
    cells: dict[tuple, list[dict]] = defaultdict(list)
    for row in board.select([*CELL, "label", "method", "untrusted", "n", "planned", metric]).to_pylist():
        if row["method"] not in UNRANKED and metric not in listed(row["untrusted"]):
            cells[tuple(row[name] for name in CELL)].append(row)
    tally: dict[str, Counter] = defaultdict(Counter)
    for cell, rows in cells.items():
        required = max(row["planned"] for row in rows)
        scored = [row for row in rows if row["n"] >= required and row[metric] is not None]
        for row in rows:
            tally[row["label"]]["failed"] += row["n"] < required
            tally[row["label"]]["undefined"] += row["n"] >= required and row[metric] is None
        groups = cluster(np.array([row[metric] for row in scored]), higher, floors.get(cell, 0.0))
        for row, group in zip(scored, groups, strict=True):
            tally[row["label"]][int(group)] += 1
    return order(Standing(label, of[1], of[2], of[3], of["failed"], of["undefined"]) for label, of in tally.items())


def ranking_block(report: Report) -> Block:
    """Deep Unlearn's Table 1, a table a measure."""
    shown = [column for column in shown_in("ranking", report.results.columns) if column.direction != "neither"]
    return Block(
        "Ranking (as Deep Unlearn's Table 1)",
        "How often a method is among the best (G1), average (G2), worst (G3), has too few usable models (F: failed, "
        "diverged, out of memory), or a score that is not defined there (n/a), over all (task, model, ratio) in which the "
        "measure is not untrusted. Groups: average linkage on the means, three clusters, fewer where clusters lie within "
        "the noise floor. Ordered by G1, then G2, then G3; equal counts share a rank.",
        [ranking_table(report, column) for column in shown],
    )


def ranking_table(report: Report, column: Column) -> TextTable:
    """The standings by one measure; where it may rank nothing, why."""
    name, marks = column.name, report.marks
    board = report.board.select([*CELL, "untrusted"]).to_pylist()
    ranked = {tuple(row[key] for key in CELL): name not in listed(row["untrusted"]) for row in board}
    reasons, unchecked = {}, False
    for entry in report.results.verdicts:
        cell = tuple(entry[key] for key in CELL)
        if entry["metric"] == name and entry["verdict"] == UNTRUSTED.name and cell in ranked:
            reasons[cell] = f"{cell_name(entry)}: {entry.get('reason') or UNTRUSTED.words}"
        unchecked |= entry["metric"] == name and entry["verdict"] == UNCHECKED.name and ranked.get(cell, False)
    beside = marks.measure(name)
    caption = f"By {column.title}{beside}{UNCHECKED.symbol * (unchecked and UNCHECKED.symbol not in beside)}"
    why = [reasons[cell] for cell in sorted(reasons)]
    if why and not any(ranked.values()):
        none = "no ranking, since the measure is untrusted everywhere"
        return TextTable([none], [[each] for each in why], caption, prose=(none,))
    if why:
        named = [*why[:NAMED], *([f"{len(why) - NAMED} more"] if len(why) > NAMED else [])]
        caption += f", over {sum(ranked.values())} of {len(ranked)} (task, model, ratio). Untrusted: {'; '.join(named)}"
    rows = [
        [
            marks.name(s.label),
            str(s.rank) if any(s.counts) or s.failed else NOTHING,
            *map(str, (*s.counts, s.failed, s.undefined)),
        ]
        for s in rank(report.board, report.noise, name, column.direction == "higher")
    ]
    return TextTable(["method", "rank", "G1", "G2", "G3", "F", "n/a"], rows, caption, marks.said())
