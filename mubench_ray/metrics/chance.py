"""Null laws: what an attack reads of a model that never saw D_F, by chance alone.

All seeds of a cell share one D_F and one D_Test, so what these few examples cause is no part of the spread over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Of every interval and range, here and in reports.
LEVEL = 0.95


@dataclass(frozen=True)
class Chance:
    """Mean of a null law, and the range that holds 95 % of it, 2.5 % on either side."""

    mean: float
    low: float
    high: float


Law = Callable[[int, int], Chance]


def auc_by_chance(members: int, others: int) -> Chance:
    """Of an AUC, by the normal law of Mann and Whitney's U: standard deviation sqrt((n + m + 1) / (12 n m))."""
    half = _z() * math.sqrt((members + others + 1) / (12 * members * others))
    return Chance(0.5, 0.5 - half, 0.5 + half)


def two_sided_auc_by_chance(members: int, others: int) -> Chance:
    """Of the cross-fitted AUC of a likelihood ratio: its folds are fitted to what the other folds show by chance, so that it
    strays up to 1.5 times as far as an AUC (standard deviations by simulation: .051 and .041 of 100 and 100, .021 and .014 of
    500 and 2,000)."""
    half = 1.5 * (auc_by_chance(members, others).high - 0.5)
    return Chance(0.5, 0.5 - half, 0.5 + half)


def advantage_by_chance(members: int, others: int) -> Chance:
    """Of |AUC - 0.5|."""
    spread = (auc_by_chance(members, others).high - 0.5) / _z()
    return Chance(spread * math.sqrt(2 / math.pi), 0.0, spread * _z())


def tpr_by_chance(fpr: float) -> Law:
    """Of a true-positive rate at ``fpr``: k = floor(fpr m) of m others may be accepted, which members n are with a
    probability of the law Beta(k + 1, m - k): a beta-binomial share of mean (k + 1) / (m + 1), not ``fpr``."""

    def law(members: int, others: int) -> Chance:
        from scipy.stats import betabinom

        others = max(others, math.ceil(1 / fpr))  # with fewer it is undefined
        allowed = math.floor(others * fpr + 1e-9)
        found = betabinom(members, allowed + 1, others - allowed)
        low, high = (float(found.ppf(tail)) / members for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return Chance((allowed + 1) / (others + 1), low, high)

    return law


def fitted_accuracy_by_chance(members: int, others: int) -> Chance:
    """Of a cross-validated accuracy of logistic regression on one feature and n = min(members, others) of either side.

    It depends on the law of the feature: its 95 % range in units of 1 / sqrt(2 n) is about [-0.9, 0.8] for log-normal
    losses, whose few large ones decide the fit, and [-1.4, 1.2] for normal ones, the widest of those tried; that one is
    taken (``benchmarks/claims``).
    """
    unit = 1 / math.sqrt(2 * min(members, others))
    return Chance(0.5, max(0.5 - 1.4 * unit, 0.0), min(0.5 + 1.2 * unit, 1.0))


def off_ideal(values: Sequence[float], ideal: float, chance: Chance) -> bool:
    """Whether ``values``, distances from ``ideal`` of n seeds, are told from distances about 0 that no seed has the same.

    A mean distance is never 0, so no interval of it can be held to the ideal. But where small distances are likelier than
    large ones (beyond what ``chance`` allows all seeds alike), the smallest of n exceeds q times the largest with a
    probability of at most (1 - q)^(n - 1): q is that of 5 %. Fewer than two tell nothing.
    """
    reach = max(chance.high - ideal, ideal - chance.low)
    beyond = [abs(value - ideal) - reach for value in values]
    if len(beyond) < 2 or min(beyond) <= 0:
        return False
    return min(beyond) > (1 - (1 - LEVEL) ** (1 / (len(beyond) - 1))) * max(beyond)


def _z() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2))
