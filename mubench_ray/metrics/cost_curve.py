"""The score at 1, 5, 10, 25, 50 and 100 % of the retraining cost, read off a trial's curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric

PERCENTS = (1, 5, 10, 25, 50, 100)
COLUMNS = ("test_accuracy", "forget_accuracy", "retain_accuracy")


def value_at_share(share: np.ndarray, value: np.ndarray, at: float) -> float:
    """``value`` (P,) at cost ``at``, linear between the points ``share`` (P,); a run that ended earlier keeps its last.

    Of points at one cost the last counts. NaN before the first point or without any.
    """
    kept = ~(np.isnan(share) | np.isnan(value))
    share, value = share[kept], value[kept]
    order = np.argsort(share, kind="stable")
    share, value = share[order], value[order]
    if not len(share) or at < share[0]:
        return float("nan")
    last = np.append(share[1:] > share[:-1], True)
    return float(np.interp(at, share[last], value[last]))


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
