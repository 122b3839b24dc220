"""Transfer: what unlearning does to the score on shifted test sets (CIFAR-100-C, Rotten Tomatoes, XSum, ...)."""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric


@metric("transfer_difference", direction="higher", low=-1.0, high=1.0, cites="MU-Bench, arXiv 2406.14796")
def transfer_difference(shifted_correct: np.ndarray, original_shifted_correct: np.ndarray) -> float:
    """Score on the shifted set after unlearning minus before; below 0 robustness was lost."""
    return shifted_correct.mean() - original_shifted_correct.mean()
