"""Damage by class: a mean over D_Test hides a class that was lost."""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

CITES = "Sagawa et al. 2020, arXiv 1911.08731 (worst-group accuracy)"
#: Test examples of a class below which its accuracy says nothing.
LEAST = 10


@metric("worst_class_drop", direction="lower", low=-1.0, high=1.0, cites=CITES)
def worst_class_drop(test_label: np.ndarray, test_correct: np.ndarray, retrain_test_correct: np.ndarray) -> float:
    """Largest loss of accuracy on D_Test against the retrain of any one class with at least 10 test examples.

    Read it beside the row of another retrain: the largest of many differences lies above 0 by chance alone. Of the classes
    that are kept, where D_F is defined by classes; undefined with fewer than two.
    """
    classes, place, counts = np.unique(test_label, return_inverse=True, return_counts=True)
    enough = counts >= LEAST
    if enough.sum() < 2:
        return np.nan
    drops = np.bincount(place, retrain_test_correct - test_correct, minlength=len(classes)) / counts
    return float(drops[enough].max())
