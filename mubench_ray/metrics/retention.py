"""Retention against the retrain of the same seed (Deep Unlearn): ratios of accuracies, their deviation from 1.

Where D_F is a whole class the retrain gets nothing of it right: FR is undefined, and RetDev with it. D_Test is what it holds
of the classes that are kept.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

DEEP_UNLEARN = "Deep Unlearn, arXiv 2410.01276"


def retention(correct: np.ndarray, retrain_correct: np.ndarray) -> float:
    """Accuracy of f_U over accuracy of f_R; NaN where the retrain got nothing right."""
    reference = retrain_correct.mean()
    return correct.mean() / reference if reference > 0 else np.nan


@metric("retain_retention", direction="neither", cites=DEEP_UNLEARN)
def retain_retention(retain_correct: np.ndarray, retrain_retain_correct: np.ndarray) -> float:
    """RR = RA(f_U) / RA(f_R); 1 is ideal."""
    return retention(retain_correct, retrain_retain_correct)


@metric("forget_retention", direction="neither", ideal=1.0, cites=DEEP_UNLEARN, remembers="above")
def forget_retention(forget_correct: np.ndarray, retrain_forget_correct: np.ndarray) -> float:
    """FR = FA(f_U) / FA(f_R); 1 is ideal, above 1 is not forgotten, below 1 is over-forgotten."""
    return retention(forget_correct, retrain_forget_correct)


@metric("test_retention", direction="neither", cites=DEEP_UNLEARN, version=2)
def test_retention(test_correct: np.ndarray, retrain_test_correct: np.ndarray) -> float:
    """TR = TA(f_U) / TA(f_R); 1 is ideal."""
    return retention(test_correct, retrain_test_correct)


@metric("retention_deviation", direction="lower", ideal=0.0, cites=DEEP_UNLEARN, version=2)
def retention_deviation(
    retain_correct: np.ndarray,
    forget_correct: np.ndarray,
    test_correct: np.ndarray,
    retrain_retain_correct: np.ndarray,
    retrain_forget_correct: np.ndarray,
    retrain_test_correct: np.ndarray,
) -> float:
    """RetDev = |RR - 1| + |FR - 1| + |TR - 1|; 0 is ideal."""
    pairs = [
        (retain_correct, retrain_retain_correct),
        (forget_correct, retrain_forget_correct),
        (test_correct, retrain_test_correct),
    ]
    return sum(abs(retention(*pair) - 1) for pair in pairs)


@metric("retrain_time_efficiency", direction="higher", cites=DEEP_UNLEARN)
def retrain_time_efficiency(seconds: float, retrain_seconds: float) -> float:
    """RTE = t_retrain / t_unlearn, in seconds of pure computation; undefined for a trial that spent none."""
    return retrain_seconds / seconds if seconds > 0 else np.nan


@metric("flos_share", direction="lower", cites="MU-Bench, arXiv 2406.14796")
def flos_share(flos: float, retrain_flos: float) -> float:
    """FLOs spent as a share of the retrain's."""
    return flos / retrain_flos if retrain_flos > 0 else np.nan
