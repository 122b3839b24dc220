"""Intervals over seeds: a bootstrap with the right coverage at 3 to 10 seeds, nested and crossed seeds, shares of
examples, and pairs of retrains.

The plain percentile bootstrap of n values is too narrow by sqrt((n - 1) / n) and by the normal quantile that it
imitates: at n = 5 its 95% interval covers 83%. Here its two arms are stretched by ``t(n - 1) / z * sqrt(n / (n - 1))``
(Hesterberg 2015, The American Statistician 69(4), section 3.3, corrects the same two faults by moving the quantiles,
which 5 values cannot resolve), and by ``1 + 0.27 / sqrt(n)`` more against skewness, whose effect on coverage shrinks
with sqrt(n) and which 5 values cannot tell: arms made more unequal by the sample's own skewness covered less in the
same simulation (studentised and BCa intervals themselves were not tried). The 0.27 was chosen by it, 40,000 repetitions each;
coverage in percent at n = 3, 5, 10:

    normal                              96.1  96.5  96.4
    accuracy of 300 examples, p = .98   96.7  96.3  96.0
    accuracies like Beta(98, 2)         93.7  93.6  94.5
    log-normal losses, sigma 0.3        95.4  95.2  95.4
    log-normal losses, sigma 0.5        93.9  93.3  93.8
    gamma losses, shape 2               93.5  93.6  94.4

Beyond a skewness of about 1.8 the target of 93% is missed: exponential values are covered 90.5, 90.7 and 92.5%.

What is estimated that way is the mean over seeds on the examples as they are. A share of examples that are right is of
more: of the population that they are a sample of. All seeds count the same n examples, so n tells how well it is known,
however many seeds there are, and seeds that agree exactly say nothing of it. The variance is s^2 / S + v / n, with s^2
that of S seeds and v that of the examples' own chance to be right, somewhere between 0 (all are equally hard) and p (1 -
p) (all seeds err on the same ones); without the examples themselves, of which D_R is too large to keep, v is not known,
and p (1 - p) is taken. The larger of both parts instead of their sum would cover 90% where both are equal at 10 seeds.

``benchmarks/claims/intervals.py`` simulates these and the crossed ones; its figures are in intervals.md beside it.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from mubench_ray.metrics.chance import LEVEL

#: Fewer training seeds or forget draws than this, where they are crossed, claim no interval: two say next to nothing of
#: a variance (Student's t with one degree of freedom is 12.7).
LEVELS = 3
#: Times 1 / sqrt(n): how much wider than Student's t asks, against skewness.
SKEWNESS_MARGIN = 0.27


def stretch(n: int) -> float:
    """How much wider than the percentile bootstrap an interval from n normal values has to be."""
    return stdtrit(n - 1, (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2) * np.sqrt(n / (n - 1))


def bootstrap_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the mean along the last axis of ``values`` (..., n); NaN entries are absent values.

    Returns low and high (...). Fewer than two values have no interval (NaN): a single seed says nothing about spread.
    """
    values = np.sort(np.asarray(values, float), axis=-1)  # puts NaN last
    shape, width = values.shape[:-1], values.shape[-1]
    values = values.reshape(-1, width)
    present = np.isfinite(values).sum(axis=1)
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for n in np.unique(present[present > 1]).tolist():
        rows = np.flatnonzero(present == n)
        given = values[rows, :n]
        centre = given.mean(axis=1)
        factor = stretch(n) * (1 + SKEWNESS_MARGIN / np.sqrt(n))
        below, above = percentile_arms(given, (1 - LEVEL) / 2)
        low[rows], high[rows] = centre - factor * below, centre + factor * above
    return low.reshape(shape), high.reshape(shape)


def percentile_arms(values: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """How far the ``tail`` and 1 - ``tail`` quantiles of the resampled mean lie below and above the mean of ``values``
    (G, n), each (G,).

    Nothing is drawn: the mean of a resample has the variance s^2 / n and the skewness g / sqrt(n) of the values' own
    (s, g with n in the denominator), and its quantiles follow from these (Cornish-Fisher; Hall 1992, The Bootstrap and
    Edgeworth Expansion, section 3.3). With few values that is nearer to 95% than the counted quantiles of their few
    different resamples are.
    """
    n = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    squares = centred * centred
    spread = np.sqrt(squares.mean(axis=1))
    skewness = (squares * centred).mean(axis=1) / np.where(spread > 0, spread, 1.0) ** 3
    z = ndtri(1 - tail)
    lean = (z**2 - 1) * skewness / (6 * np.sqrt(n))  # below z at any n: |skewness| is at most sqrt(n)
    return spread / np.sqrt(n) * (z - lean), spread / np.sqrt(n) * (z + lean)


def counted_interval(share: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval (Clopper & Pearson 1934, Biometrika 26(4)) of a ``share`` (G,) of distinct ``examples`` (G,) that are
    right; neither has to make a whole number. Low and high (G,), NaN where either is.

    It never covers less than it says, which Wilson's does near 1 (84% of .9995 from 300 examples), and has a width where
    all are right. Of scores between 0 and 1 that are not counts the variance is smaller than of counts with their mean.
    """
    share, examples = np.broadcast_arrays(np.clip(share, 0.0, 1.0), np.asarray(examples, float))
    right, wrong = share * examples, (1 - share) * examples
    with np.errstate(invalid="ignore"):
        low = np.where(right > 0, betaincinv(right, wrong + 1, (1 - LEVEL) / 2), 0.0)
        high = np.where(wrong > 0, betaincinv(right + 1, wrong, (1 + LEVEL) / 2), 1.0)
    absent = np.isnan(share) | np.isnan(examples)
    return np.where(absent, np.nan, low), np.where(absent, np.nan, high)


def with_examples(
    mean: np.ndarray, low: np.ndarray, high: np.ndarray, examples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Widen an interval over seeds of a mean share by that of the ``examples`` that all seeds count, each (G,);
    NaN examples widen nothing, and what has no interval over seeds gets none.

    Seeds and examples are two samples, so the arms add as squares (Zou & Donner 2008, Statistics in Medicine 27(10)).
    """
    fewest, most = counted_interval(mean, examples)
    known = np.isfinite(fewest)
    below = np.hypot(mean - low, np.where(known, mean - fewest, 0.0))
    above = np.hypot(high - mean, np.where(known, most - mean, 0.0))
    return mean - below, mean + above


def crossed_interval(values: np.ndarray) -> tuple[float, float]:
    """Interval of the mean of the cells (T, D) of T training seeds crossed with D shared forget draws; NaN cells are
    absent.

    Two-way random effects: the mean's variance is the sum of the components of seeds, draws and cells, each over how
    many of them there are, estimated by analysis of variance (negative ones are 0), with Satterthwaite's degrees of
    freedom (1946, Biometrics Bulletin 2(6)). Absent cells are filled by the additive fit for the mean squares, and the
    components are weighted by the cells that are there. NaN with fewer than LEVELS of either, or too few cells to tell
    the components apart.
    """
    there = np.isfinite(values)
    values, there = (of[there.any(axis=1)][:, there.any(axis=0)] for of in (values, there))
    rows, columns = values.shape
    nothing = float("nan"), float("nan")
    free = int(there.sum()) - rows - columns + 1
    if min(rows, columns) < LEVELS or free < 1:
        return nothing
    row, column = np.nonzero(there)
    design = np.hstack([np.eye(rows)[row], np.eye(columns)[column]])
    fit, _, rank, _ = np.linalg.lstsq(design, values[there], rcond=None)
    if rank < rows + columns - 1:  # seeds and draws that share no cells, even by others
        return nothing
    additive = fit[:rows, None] + fit[None, rows:]
    filled = np.where(there, values, additive)
    of_rows, of_columns = columns * filled.mean(axis=1).var(ddof=1), rows * filled.mean(axis=0).var(ddof=1)
    of_cells = float(((filled - additive) ** 2).sum()) / free
    count = int(there.sum())
    shares = (there.sum(axis=1) ** 2).sum() / count**2 / columns, (there.sum(axis=0) ** 2).sum() / count**2 / rows
    # The variance as a sum of mean squares: (square, weight, degrees of freedom), a negative component left out.
    kept = [part for part in zip((of_rows, of_columns), shares, (rows - 1, columns - 1)) if part[0] > of_cells]
    parts = [*kept, (of_cells, 1 / count - sum(weight for _, weight, _ in kept), free)]
    variance = sum(square * weight for square, weight, _ in parts)
    spread = sum((square * weight) ** 2 / degrees for square, weight, degrees in parts)
    degrees = variance**2 / spread if spread > 0 else min(rows, columns) - 1.0
    arm = stdtrit(max(degrees, 1.0), (1 + LEVEL) / 2) * np.sqrt(max(variance, 0.0))
    arm *= 1 + SKEWNESS_MARGIN / np.sqrt(min(rows, columns))
    centre = values[there].mean()
    return centre - arm, centre + arm


def mean_absolute_difference(values: np.ndarray) -> float:
    """Mean |x_i - x_j| over all pairs i < j of ``values`` (n,); NaN with fewer than two."""
    values = np.sort(values[np.isfinite(values)])
    n = len(values)
    if n < 2:
        return float("nan")
    return float(2 * (values * (2 * np.arange(n) - n + 1)).sum() / (n * (n - 1)))
