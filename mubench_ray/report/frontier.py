"""Cost: which methods another one beats at no higher price, and what a score is worth at a share of the retrain's
cost."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mubench_ray.metrics.cost_curve import reached
from mubench_ray.report.columns import COLUMN, Column, shown_in
from mubench_ray.report.grouping import group_by, positions
from mubench_ray.report.load import Results
from mubench_ray.report.summary import CELL
from mubench_ray.results.schema import CURVE_SHARES
from mubench_ray.results.store import Store

#: What a score costs, and what it costs with tuning.
(COST,) = (column.name for column in shown_in("cost"))
(CHARGED,) = (column.name for column in shown_in("charged"))
#: The endings of the columns that ``mark_dominated`` adds, by what a score is held against.
ENDINGS = {COST: "", CHARGED: "_with_tuning"}
#: What is read along a curve.
ALONG = tuple(column.name for column in shown_in("curves"))


def dominated(cost: np.ndarray, score: np.ndarray, higher: bool) -> np.ndarray:
    """Mask (n,) of the points that another beats: no dearer and no worse, and better in one of the two. NaN points are
    never on the frontier."""
    gain = score if higher else -score
    known = np.isfinite(cost) & np.isfinite(gain)
    beaten = ~known
    order = np.lexsort((-gain[known], cost[known]))
    index = np.flatnonzero(known)[order]
    best, best_cost = -np.inf, -np.inf
    for position in index:
        if gain[position] < best or (gain[position] == best and cost[position] > best_cost):
            beaten[position] = True
        elif gain[position] > best:
            best, best_cost = gain[position], cost[position]
    return beaten


def at_shares(results: Results) -> dict[str, np.ndarray]:
    """``<metric>@<share>`` of every trial (N,): the metrics that are shown as curves, had it stopped at that share of its
    retrain's FLOs, and ``spent@<share>``.

    Read where its curve has ``reached`` the share. NaN for trials that are not usable or left no curve, and of a retrain
    before it is done.
    """
    ids = results.trials["trial_id"].combine_chunks()
    curves = Store(results.root).read("curves", columns=["trial_id", "retrain_share", *ALONG])
    if not len(curves) or not len(ids):
        return {}
    owner = positions(curves["trial_id"], ids)
    share = curves["retrain_share"].to_numpy(zero_copy_only=False).astype(float)
    points = np.flatnonzero((owner >= 0) & np.isfinite(share))
    points = points[results.usable[owner[points]]]
    points = points[np.lexsort((share[points], owner[points]))]
    owner, share = owner[points], share[points]
    trials, start = np.unique(owner, return_index=True)
    if not len(trials):
        return {}
    values = {name: curves[name].to_numpy(zero_copy_only=False).astype(float)[points] for name in ALONG} | {
        "spent": share
    }
    read = {}
    for at in CURVE_SHARES:
        chosen = reached(share, start, at)
        for name, column in values.items():
            of_trials = np.full(len(ids), np.nan)
            of_trials[trials] = np.where(chosen >= 0, column[chosen], np.nan)
            read[f"{name}@{at:g}"] = of_trials
    return read


def without_overlap(x: np.ndarray, y: np.ndarray, wanted: np.ndarray, width: float, height: float) -> np.ndarray:
    """Mask (n,) of the ``wanted`` points whose names, ``width`` x ``height`` in the units of ``x`` and ``y``, can stand
    beside them without covering the name of one taken before."""
    named = np.zeros(len(x), bool)
    for point in np.flatnonzero(wanted & np.isfinite(x) & np.isfinite(y)):
        taken = np.flatnonzero(named)
        named[point] = not ((abs(x[taken] - x[point]) < width) & (abs(y[taken] - y[point]) < height)).any()
    return named


def names_that_fit(
    metric: str, cost: np.ndarray, score: np.ndarray, low: np.ndarray, high: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """``apart`` on the axes that the chart draws: log cost, and the score with its intervals (of some, their square roots,
    from 0).

    A name takes a quarter of the width and a fourteenth of the height.
    """
    drawn = np.isfinite(cost) & np.isfinite(score)
    if not drawn.any():
        return np.zeros(len(cost), bool)
    root = metric in COLUMN and COLUMN[metric].root
    edges = np.concatenate([score[drawn], low[drawn & np.isfinite(low)], high[drawn & np.isfinite(high)], [0.0] * root])
    place = np.sqrt(np.maximum(score, 0)) if root else score
    span = np.ptp(np.sqrt(np.maximum(edges, 0)) if root else edges)
    x = np.log(cost)
    return without_overlap(x, place, wanted, np.ptp(x[drawn]) / 4 or 1.0, span / 14 or 1.0)


def mark_dominated(scopes: pa.Table, columns: list[Column]) -> pa.Table:
    """Add ``<metric>_dominated`` and ``<metric>_labelled`` to the rows of ``scoped``: within a scope, another contender is no
    dearer and no worse; and where tuning is charged the same of that cost, ``_with_tuning``.

    Original does not enter (it unlearns nothing, at no cost).
    """
    for cost, ending in ENDINGS.items():
        if cost in scopes.column_names:
            scopes = _marked_by(scopes, columns, cost, ending)
    return scopes


def _marked_by(scopes: pa.Table, columns: list[Column], by: str, ending: str) -> pa.Table:
    cells = group_by(scopes, CELL)
    cost = scopes[by].to_numpy(zero_copy_only=False).astype(float)
    cost = np.where((cost > 0) & (scopes["method"].to_numpy(zero_copy_only=False) != "original"), cost, np.nan)
    for column in shown_in("frontier", columns):
        name = column.name
        score, low, high = (
            scopes[name + edge].to_numpy(zero_copy_only=False).astype(float) for edge in ("", "_low", "_high")
        )
        flags, labelled = np.zeros(len(scopes), bool), np.zeros(len(scopes), bool)
        for rows in cells.members():
            flags[rows] = dominated(cost[rows], score[rows], column.direction == "higher")
            edges = (low[rows], high[rows])
            labelled[rows] = names_that_fit(name, cost[rows], score[rows], *edges, ~flags[rows])
        scopes = scopes.append_column(f"{name}_dominated{ending}", pa.array(flags))
        scopes = scopes.append_column(f"{name}_labelled{ending}", pa.array(labelled))
    return scopes
