"""Whether original and retrain are told apart over seeds, and what difference would have been seen.

A t test by Welch over the seeds of either, and one of the differences where both have the same seeds, which sees more
where seeds share much. One of the two has to see it, at levels that add up to 5 % (Bonferroni), so that no more than
5 % of originals of the retrain's own law are told apart, whatever the seeds share. It is one-sided where the side on which
a model that remembers lies is known before: then 5 seeds tell two pooled standard deviations in 87 % of cases, where a
two-sided one would in 75 %. Simulated in ``benchmarks/claims/gate.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mubench_ray.metrics.chance import LEVEL

Side = Literal["above", "below"]
#: Levels of the test over all seeds and of the one by pairs; together 5 %.
UNPAIRED, PAIRED = 0.045, 0.005
#: Seeds of either below which nothing is tested, and below which two pooled standard deviations are missed too often for
#: a difference that is not seen to mean anything.
SEEDS, ENOUGH = 3, 5
#: Of the smallest difference that is stated: how often it would have been seen.
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its Student t interval, of no width where all seeds agree exactly."""

    mean: float
    low: float
    high: float
    seeds: int

    def meets(self, low: float, high: float) -> bool:
        """Whether the interval and [low, high] have a point in common."""
        return self.low <= high and low <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Apart:
    """Whether two samples are told apart: ``p`` of both tests together, told apart at 0.05 and below; ``smallest``, the
    difference of means that would have been seen with a probability of 80 %, given their spread (infinite of none)."""

    difference: Interval
    p: float
    smallest: float

    @property
    def told(self) -> bool:
        """Whether they are."""
        return self.p <= UNPAIRED + PAIRED


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Student t interval of the mean over seeds; raises ValueError for fewer than 2 values."""
    data = np.asarray(values, float)
    if len(data) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 values, not {len(data)}")
    return _interval(float(data.mean()), float(data.std(ddof=1) / math.sqrt(len(data))), len(data) - 1, len(data))


def tell_apart(original: Mapping[Any, float], retrain: Mapping[Any, float], side: Side | None) -> Apart:
    """Test whether the mean of ``original`` lies on that ``side`` of the mean of ``retrain``, on either for None; values
    by seed, at least 3 of each."""
    ours, theirs = (np.array(list(values.values()), float) for values in (original, retrain))
    common = [seed for seed in original if seed in retrain]
    difference = float(ours.mean() - theirs.mean())
    spreads = ours.var(ddof=1) / len(ours), theirs.var(ddof=1) / len(theirs)
    error = math.sqrt(sum(spreads))
    freedom = sum(spreads) ** 2 / (spreads[0] ** 2 / (len(ours) - 1) + spreads[1] ** 2 / (len(theirs) - 1) or 1.0)
    tests = [(difference, error, max(freedom, 1.0), UNPAIRED)]
    if len(common) >= SEEDS:
        pairs = np.array([original[seed] - retrain[seed] for seed in common], float)
        tests.append((float(pairs.mean()), float(pairs.std(ddof=1)) / math.sqrt(len(pairs)), len(pairs) - 1, PAIRED))
    seeds = min(len(ours), len(theirs))
    return _together(tests, side, _interval(difference, error, max(freedom, 1.0), seeds))


def tell_from(values: Mapping[Any, float], null: float, side: Side | None) -> Apart:
    """The same of differences that were taken before, by seed: whether their mean lies on that side of ``null``."""
    data = np.array(list(values.values()), float) - null
    interval = mean_interval(data)
    error = float(data.std(ddof=1)) / math.sqrt(len(data))
    return _together([(interval.mean, error, len(data) - 1, UNPAIRED + PAIRED)], side, interval)


def _together(tests: list[tuple[float, float, float, float]], side: Side | None, difference: Interval) -> Apart:
    """Of tests (mean, standard error, degrees of freedom, level): p values divided by each one's share of the 5 %."""
    from scipy.special import chdtri, nctdtrinc, stdtr, stdtrit

    sides = 1 if side else 2
    p, smallest = 1.0, math.inf
    for mean, error, freedom, level in tests:
        towards = abs(mean) if side is None else mean if side == "above" else -mean
        if error > 0:
            of_this = float(stdtr(freedom, -towards / error))
            edge = float(stdtrit(freedom, 1 - level / sides))
            # Few seeds have a spread below the true one more often than not; this is as often above it.
            typical = error * math.sqrt(freedom / float(chdtri(freedom, 0.5)))
            smallest = min(smallest, float(nctdtrinc(freedom, 1 - POWER, edge)) * typical)
        else:  # all seeds agree exactly, which does not say how far others would lie from them
            of_this = float(towards <= 0)
        p = min(p, of_this * sides * (UNPAIRED + PAIRED) / level)
    return Apart(difference, p, smallest)


def _interval(mean: float, error: float, freedom: float, seeds: int) -> Interval:
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Interval(mean, mean - half, mean + half, seeds)
