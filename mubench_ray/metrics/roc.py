"""What an attack's scores are worth: area under the ROC curve and true-positive rate at a fixed false-positive rate."""

from __future__ import annotations

import numpy as np


def auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Probability that a score of ``positives`` (N,) exceeds one of ``negatives`` (M,); in [0, 1], 0.5 is chance.

    Ties count half. NaN where either is empty or holds a NaN.
    """
    if len(positives) == 0 or len(negatives) == 0 or np.isnan(positives).any() or np.isnan(negatives).any():
        return float("nan")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left").sum()
    not_above = np.searchsorted(ordered, positives, "right").sum()
    return float((below + not_above) / 2 / (len(positives) * len(negatives)))


def tpr_at_fpr(positives: np.ndarray, negatives: np.ndarray, fpr: float) -> float:
    """Largest share of ``positives`` above a threshold that at most ``fpr`` of ``negatives`` exceed, in [0, 1].

    Carlini et al. 2022. No interpolation between thresholds. NaN with fewer than 1 / ``fpr`` negatives, where that rate
    cannot be told from zero.
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie in (0, 1), not {fpr}")
    if len(positives) == 0 or len(negatives) * fpr < 1 - 1e-9 or np.isnan(positives).any() or np.isnan(negatives).any():
        return float("nan")
    allowed = int(np.floor(len(negatives) * fpr + 1e-9))
    # The highest score that must still be refused: what exceeds it is reached by at most `allowed` negatives.
    refused = np.sort(negatives)[len(negatives) - 1 - allowed]
    return float(np.mean(positives > refused))
