"""Deletion capacity: how much can be forgotten before D_Test suffers?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.chance import LEVEL
from mubench_ray.metrics.group import Part, group_metric

CITES = "MU-Bench, arXiv 2406.14796; Sekhari et al. 2021, arXiv 2103.03279"
LOSS_MARGIN = 0.05
ACCURACY_MARGIN = 0.01
PARTS = {"capacity": Part("higher", high=100.0, interval=("low", "high"))} | dict.fromkeys(
    ("low", "high"), Part("neither", high=100.0)
)


def capacity(ratio: np.ndarray, harm: np.ndarray, margin: float) -> float:
    """Largest of the ascending ratios (K,) up to which ``harm`` (K,) stays within ``margin``; 0.0 if none."""
    beyond = np.flatnonzero(~(harm <= margin))
    passed = len(ratio) if not len(beyond) else beyond[0]
    return float(ratio[passed - 1]) if passed else 0.0


def capacity_with_interval(
    ratio: np.ndarray, harm: np.ndarray, seed: np.ndarray, margin: float, draws: int = 2000
) -> dict[str, float]:
    """``capacity`` of one value a trial (T,), with a percentile bootstrap interval over training seeds (T,).

    ``harm`` is what D_Test lost against the original, larger is worse. A draw takes whole seeds with all their ratios,
    so that curves stay curves. The interval is NaN with fewer than 3 seeds. The answer is one of the ratios tried, or
    0.0.
    """
    kept = ~(np.isnan(harm) | np.isnan(ratio))
    ratio, harm, seed = ratio[kept], harm[kept], seed[kept]
    if not len(ratio):
        return dict.fromkeys(PARTS, float("nan"))
    ratios, row = np.unique(ratio, return_inverse=True)
    seeds, column = np.unique(seed, return_inverse=True)
    total, count = np.zeros((len(ratios), len(seeds))), np.zeros((len(ratios), len(seeds)))
    np.add.at(total, (row, column), harm)
    np.add.at(count, (row, column), 1)
    value = capacity(ratios, total.sum(1) / count.sum(1), margin)
    if len(seeds) < 3:
        return {"capacity": value, "low": float("nan"), "high": float("nan")}
    picks = np.random.default_rng(0).integers(len(seeds), size=(draws, len(seeds)))
    counts = count[:, picks].sum(-1)
    # A draw without any trial at a ratio says nothing of it: it is taken as within, its neighbours decide.
    means = np.divide(total[:, picks].sum(-1), counts, out=np.full_like(counts, -np.inf), where=counts > 0)
    drawn = [capacity(ratios, column, margin) for column in means.T]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return {"capacity": value, "low": float(low), "high": float(high)}


@group_metric("deletion_capacity", over=("ratio", "seed"), parts=PARTS, cites=CITES)
def deletion_capacity(
    ratio: np.ndarray,
    test_loss: np.ndarray,
    original_test_loss: np.ndarray,
    training_seed: np.ndarray,
    margin: float = LOSS_MARGIN,
) -> Mapping[str, float]:
    """Largest ratio (percent) up to which D_Test loss stays within ``margin`` nats of the original's; 95 % interval."""
    return capacity_with_interval(ratio, test_loss - original_test_loss, training_seed, margin)


@group_metric("deletion_capacity_accuracy", over=("ratio", "seed"), parts=PARTS, cites=CITES)
def deletion_capacity_accuracy(
    ratio: np.ndarray,
    test_accuracy: np.ndarray,
    original_test_accuracy: np.ndarray,
    training_seed: np.ndarray,
    margin: float = ACCURACY_MARGIN,
) -> Mapping[str, float]:
    """Largest ratio (percent) up to which D_Test accuracy stays within ``margin`` of the original's; 95 % interval."""
    return capacity_with_interval(ratio, original_test_accuracy - test_accuracy, training_seed, margin)
