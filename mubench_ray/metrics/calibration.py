"""Calibration: is f_U as often right as it is sure?"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

CITES = "Guo et al. 2017, arXiv 1706.04599; Naeini et al. 2015, AAAI"
BINS = 15


def expected_calibration_error(top_probability: np.ndarray, correct: np.ndarray) -> float:
    """Mean over examples of how far, in their bin, the share of ``correct`` (N,) lies from the mean ``top_probability`` (N,);
    15 bins of equal width, each without its lower end; in [0, 1]."""
    cell = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], top_probability)
    return float(np.abs(np.bincount(cell, top_probability - correct)).sum() / len(correct))


@metric("test_calibration_error", direction="lower", high=1.0, cites=CITES, heading="ECE on D_Test")
def test_calibration_error(test_top_probability: np.ndarray, test_correct: np.ndarray) -> float:
    """Expected calibration error on D_Test, 15 bins; 0 is a network that is as often right as it says."""
    return expected_calibration_error(test_top_probability, test_correct)
