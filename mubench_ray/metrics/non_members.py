"""Which examples D_F is compared with as ones that were never trained on."""

from __future__ import annotations

import numpy as np


def non_members(held_out: np.ndarray, of_its_classes: np.ndarray | None) -> np.ndarray:
    """Of a column of D_Test or D_V (N,) the examples that an attack tells D_F from: those of its own classes where D_F is
    defined by classes (``of_its_classes``, (M,)), else all. By its class alone an attacker tells D_F from the others
    whatever was forgotten, and a retrain would look like a leak."""
    return held_out if of_its_classes is None else of_its_classes
