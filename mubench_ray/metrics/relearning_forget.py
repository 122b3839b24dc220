"""Relearning on a part of D_F: how much of the rest comes back with the few forgotten examples that f_U is given again, beyond what comes to its retrain.

The observation ``relearn_forget`` fine-tunes on 1, 5 and 10 % of D_F unless a suite says otherwise; a share that was not tried has no value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mubench_ray.metrics.base import metric
from mubench_ray.metrics.relearning import mean_height

CITES = "Hu et al. 2025, arXiv 2406.13356"


def height_at(share: float) -> Callable[..., float]:
    """The metric of one share, in percent of D_F."""

    def height(
        relearn_shares: np.ndarray,
        relearn_share_steps: np.ndarray,
        relearn_share_accuracy: np.ndarray,
        retrain_relearn_share_accuracy: np.ndarray,
    ) -> float:
        row = np.flatnonzero(relearn_shares == share)
        if not len(row):
            return float("nan")
        return mean_height(relearn_share_steps, (relearn_share_accuracy - retrain_relearn_share_accuracy)[row[0]])

    height.__doc__ = f"Mean height of the accuracy on the rest of D_F above the retrain's own while {share:g} % of D_F is relearned; above 0 D_F was hidden."
    return height


for each in (1, 5, 10):
    metric(
        f"relearning_forget_{each}", direction="neither", low=-1.0, high=1.0, ideal=0.0, cites=CITES, remembers="above"
    )(height_at(each))
