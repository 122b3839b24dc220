"""Relearning: f_U is fine-tuned on D_R only; does D_F come back faster than it comes to a model that never saw it?

Both curves are accuracy on D_F at the same ``relearn_steps``, step 0 first, f_R's under the same fine-tuning.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

CITES = "relearn time: Golatkar et al. 2020, arXiv 1911.04933; Tarun et al. 2023, arXiv 2111.08947"


def mean_height(steps: np.ndarray, curve: np.ndarray) -> float:
    """Mean of ``curve`` (T,) over ``steps`` (T,) by trapezoids; NaN for a curve of no length."""
    span = steps[-1] - steps[0]
    return float(np.sum(np.diff(steps) * (curve[1:] + curve[:-1]) / 2) / span) if span > 0 else float("nan")


def steps_to_reach(steps: np.ndarray, curve: np.ndarray, level: float) -> float:
    """First step, interpolated, at which ``curve`` is at ``level`` or above; NaN if it never is."""
    reached = np.flatnonzero(curve >= level)
    if not len(reached):
        return float("nan")
    at = reached[0]
    if at == 0:
        return float(steps[0])
    share = (level - curve[at - 1]) / (curve[at] - curve[at - 1])
    return float(steps[at - 1] + share * (steps[at] - steps[at - 1]))


@metric("relearning_area", direction="neither", low=-1.0, high=1.0, ideal=0.0, cites=CITES, remembers="above")
def relearning_area(
    relearn_steps: np.ndarray, relearn_forget_accuracy: np.ndarray, retrain_relearn_forget_accuracy: np.ndarray
) -> float:
    """Mean height of the relearning curve above the retrain's own; above 0 D_F was hidden rather than forgotten."""
    return mean_height(relearn_steps, relearn_forget_accuracy - retrain_relearn_forget_accuracy)


@metric("relearning_return", direction="neither", low=-2.0, high=2.0, ideal=0.0, cites=CITES)
def relearning_return(relearn_forget_accuracy: np.ndarray, retrain_relearn_forget_accuracy: np.ndarray) -> float:
    """How much of D_F returns, last accuracy minus first, beyond what the retrain gains from the same fine-tuning."""
    ours, retrains = relearn_forget_accuracy, retrain_relearn_forget_accuracy
    return (ours[-1] - ours[0]) - (retrains[-1] - retrains[0])


@metric("relearning_steps_share", direction="neither", ideal=1.0, cites=CITES, remembers="below")
def relearning_steps_share(
    relearn_steps: np.ndarray, relearn_forget_accuracy: np.ndarray, retrain_relearn_forget_accuracy: np.ndarray
) -> float:
    """Steps f_U takes to the best D_F accuracy of the retrain's curve, as a share of the retrain's; below 1 is faster.

    Undefined where f_U never reaches it or the retrain starts there.
    """
    level = retrain_relearn_forget_accuracy.max()
    retrains = steps_to_reach(relearn_steps, retrain_relearn_forget_accuracy, level)
    return steps_to_reach(relearn_steps, relearn_forget_accuracy, level) / retrains if retrains > 0 else float("nan")
