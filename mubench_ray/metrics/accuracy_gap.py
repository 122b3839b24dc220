"""Distance of accuracies to the retrain's: the losses that Deep Unlearn's search adds up."""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

CITES = "Deep Unlearn, arXiv 2410.01276, section on hyperparameter search"


@metric("retain_gap", direction="lower", high=1.0, cites=CITES)
def retain_gap(retain_correct: np.ndarray, retrain_retain_correct: np.ndarray) -> float:
    """|RA(f_U) - RA(f_R)|; 0 is ideal."""
    return abs(retain_correct.mean() - retrain_retain_correct.mean())


@metric("forget_gap", direction="lower", high=1.0, ideal=0.0, cites=CITES)
def forget_gap(forget_correct: np.ndarray, retrain_forget_correct: np.ndarray) -> float:
    """|FA(f_U) - FA(f_R)|; 0 is ideal, above it too little or too much was forgotten."""
    return abs(forget_correct.mean() - retrain_forget_correct.mean())


@metric("validation_gap", direction="lower", high=1.0, cites=CITES, version=2)
def validation_gap(validation_correct: np.ndarray, retrain_validation_correct: np.ndarray) -> float:
    """|VA(f_U) - VA(f_R)| on D_V; 0 is ideal."""
    return abs(validation_correct.mean() - retrain_validation_correct.mean())
