"""The score at 1, 5, 10, 25, 50 and 100 % of the retraining cost, read off a trial's curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric

PERCENTS = (1, 5, 10, 25, 50, 100)
#: By how much a share may be missed by rounding.
ROUNDING = 1e-6
COLUMNS = ("test_accuracy", "forget_accuracy", "retain_accuracy")


def reached(share: np.ndarray, start: np.ndarray, at: float) -> np.ndarray:
    """The point (T,) at which each of T runs would have stopped at cost ``at``, as a place in ``share`` (P,), the costs of
    their points, ascending in each run; ``start`` (T,) is where each begins.

    It is the first point at or past the cost: there the run was evaluated, and between two points no network is known.
    A run that ended earlier keeps its last, since it would spend no more; of points at one cost the last counts. -1 where
    already the first is dearer.
    """
    place, end = np.arange(len(share)), np.append(start[1:], len(share)) - 1
    first = np.minimum.reduceat(np.where(share >= at * (1 - ROUNDING), place, len(share)), start)
    changes = np.append(share[1:] != share[:-1], True)
    changes[end] = True
    last_of_equal = np.minimum.accumulate(np.where(changes, place, len(share))[::-1])[::-1]
    return np.where(share[start] > at * (1 + ROUNDING), -1, last_of_equal[np.minimum(first, end)])


def value_at_share(share: np.ndarray, value: np.ndarray, at: float) -> float:
    """``value`` (P,) of one run where it has ``reached`` the cost ``at``; points of unknown ``share`` (P,) are none. NaN
    before the first point or without any."""
    kept = ~np.isnan(share)
    order = np.argsort(share[kept], kind="stable")
    share, value = share[kept][order], value[kept][order]
    point = int(reached(share, np.array([0]), at)[0]) if len(share) else -1
    return float(value[point]) if point >= 0 else float("nan")


@group_metric(
    "score_at_cost",
    over=(),
    parts={f"{column}_at_{percent}_percent": Part("neither", high=1.0) for column in COLUMNS for percent in PERCENTS},
    cites="cost frontier: MU-Bench, arXiv 2406.14796 (unlearning capped at retraining)",
)
def score_at_cost(
    curve_retrain_share: np.ndarray,
    curve_test_accuracy: np.ndarray,
    curve_forget_accuracy: np.ndarray,
    curve_retain_accuracy: np.ndarray,
) -> Mapping[str, float]:
    """Accuracy of one trial (1, P) on D_Test, D_F and D_R at 1, 5, 10, 25, 50 and 100 % of the retrain's FLOs."""
    columns = dict(zip(COLUMNS, (curve_test_accuracy, curve_forget_accuracy, curve_retain_accuracy)))
    return {
        f"{name}_at_{percent}_percent": value_at_share(curve_retrain_share[0], values[0], percent / 100)
        for name, values in columns.items()
        for percent in PERCENTS
    }
