"""Which of several rows of paired values differ: closed testing of all pairs, and of all against one reference, where
variances need not be equal and few blocks say little of each.

Two tests have to agree on a pair. Both divide its mean difference over common blocks by a standard error and hold it to
the studentised range, one (Games & Howell 1976, J. Educ. Statist. 1) by the two rows' own variances around the block
means, the other by the variance of their differences, which is right where rows of one family move together. Both
variances are moderated: what all rows, or all pairs, have in common weighs as much as they agree (Smyth 2004, Stat.
Appl. Genet. Mol. Biol. 3). Five values alone estimate a variance so badly that a difference of three standard deviations among
18 rows is mostly missed; one pooled variance is wrong where they differ. Where a row's own is FAR above the common one
it stands alone, with its own degrees of freedom.

A pair is told apart when every set of rows that holds both is not equal (closed testing; Marcus, Peritz & Gabriel 1976,
Biometrika 63), a set of p of C rows at the level of Ryan, Einot, Gabriel and Welsch. Not every set is gone through: as
many rows as could make up one with the pair are counted, which errs to the safe side. What level and power come of it is
simulated in ``benchmarks/claims/letters.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, ndtr, polygamma, psi, stdtr

ALPHA = 0.05
#: Fewer common blocks than this decide nothing.
BLOCKS = 3
#: From this many blocks on all of ALPHA is spent; fewer say too little of whether variances are equal.
ENOUGH_BLOCKS = 5
#: A variance so many times the common one is not moderated.
FAR = 3.5
#: How much of the sampling variance of log variances is taken for granted: below 1 moderates less, since rows share
#: their blocks and so the log variances of pairs spread less than independent ones.
SAMPLING = 0.9
#: Of the common variance: what a smaller one counts as where the spread of log variances is judged (ties make zeros).
LEAST = 0.01
#: The weight of the common variance, as degrees of freedom, is at most this.
MOST_WEIGHT = 60.0
#: Degrees of freedom at which quantiles of the studentised range are computed; 1 / df is interpolated between.
FREEDOM = np.array([1, 1.5, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30, 50, 100, 400.0])


def told_apart(values: np.ndarray, units: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Mask (C, C) of the pairs of rows of ``values`` (C, B) whose means over common blocks differ, family-wise error at
    most ALPHA; a column is a block, NaN entries are absent. ``units`` are codes (B,) of what several blocks may share.

    False where fewer than BLOCKS blocks are common, and for rows that are equal in all of them. A difference that is the
    same in every block tells two rows apart.
    """
    size = len(values)
    pairs = np.triu_indices(size, 1)
    difference = values[pairs[0]] - values[pairs[1]]
    known = np.isfinite(difference).sum(axis=1) >= BLOCKS
    if not known.any():
        return np.zeros((size, size), bool)
    pairs, difference = (pairs[0][known], pairs[1][known]), difference[known]
    blocks = np.isfinite(difference).sum(axis=1)
    mean, shared = np.nanmean(difference, axis=1), dependence(difference, units)
    most = float((np.isfinite(values).sum(axis=1) - 1).clip(0).sum() * (size - 1) / size)
    alpha = spent(int(blocks.max()))

    def judged(variance: np.ndarray, freedom: np.ndarray) -> np.ndarray:
        statistic = studentised(mean, variance * shared, blocks)
        return closed(size, pairs, statistic, np.maximum(np.minimum(freedom, most) / shared, 1), alpha)

    apart = judged(*moderated(np.nanvar(difference, axis=1, ddof=1), blocks - 1.0))
    if size == 2 or not apart.any():
        return apart
    return apart & judged(*welch(*moderated(*row_variances(values)), *pairs))


def worse_than(values: np.ndarray, reference: np.ndarray, units: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Mask (C,) of the rows of ``values`` (C, B) whose mean lies above that of the ``reference`` (B,) over common blocks.

    Dunnett's many-to-one comparison (1955, JASA 50), one-sided, of paired differences with moderated variances, by
    Holm's procedure (1979, Scand. J. Statist. 6), which asks neither for equal variances nor for known correlations.
    False where fewer than BLOCKS blocks are common. ``units`` as in ``told_apart``.
    """
    difference = values - reference
    blocks = np.isfinite(difference).sum(axis=1)
    rows = np.flatnonzero(blocks >= BLOCKS)
    found = np.zeros(len(values), bool)
    if not len(rows):
        return found
    difference, blocks = difference[rows], blocks[rows]
    mean, shared = np.nanmean(difference, axis=1), dependence(difference, units)
    variance, freedom = np.nanvar(difference, axis=1, ddof=1), blocks - 1.0
    if len(rows) > 1:
        own = moderated(*row_variances(np.vstack([reference, values[rows]])))
        variance, freedom = welch(*own, np.zeros_like(rows), 1 + np.arange(len(rows)))
    p = stdtr(np.maximum(freedom / shared, 1), -studentised(mean, variance * shared, blocks))
    found[rows] = holm(np.where(mean > 0, p, 1.0), spent(int(blocks.max())))
    return found


def dependence(difference: np.ndarray, units: Sequence[np.ndarray]) -> float:
    """How many times the variance of a mean over independent blocks that of the rows of ``difference`` (P, B) is, since
    blocks of one unit (a training seed, a forget draw) move together; at least 1.

    Mean squares between the means of units over those between blocks, of all rows together; of crossed units, whose
    excesses over 1 add up, each.
    """
    there = np.isfinite(difference)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    centred = np.where(there, difference - np.where(there, difference, 0).sum(axis=1, keepdims=True) / count, 0)
    within = (centred**2).sum() / np.maximum(count - 1, 1).sum()
    excess = 0.0
    for codes in units:
        members = np.equal.outer(codes, np.unique(codes)).astype(float)
        if 1 < members.shape[1] < len(codes) and within > 0:
            sums, counts = centred @ members, there @ members
            between = (sums**2 / np.maximum(counts, 1)).sum() / np.maximum((counts > 0).sum(axis=1) - 1, 1).sum()
            excess += between / within - 1
    return max(1.0, 1.0 + excess)


def spent(blocks: int) -> float:
    """The nominal level of so many blocks: ALPHA from ENOUGH_BLOCKS on, less below."""
    return ALPHA * min(1.0, (blocks - 1) / (ENOUGH_BLOCKS - 1))


def holm(p: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Mask of the rejected among p values (m,), family-wise error at most ``alpha`` (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    passes = p[order] <= alpha / (len(p) - np.arange(len(p)))
    rejected = np.zeros(len(p), bool)
    rejected[order[: len(p) if passes.all() else int(np.argmin(passes))]] = True
    return rejected


def studentised(mean: np.ndarray, variance: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """|mean| over its standard error; 0 for a mean of exactly 0, infinite where nothing varies."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mean == 0, 0.0, np.abs(mean) / np.sqrt(variance / blocks))


def welch(
    variance: np.ndarray, freedom: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variances of the differences of rows ``left`` and ``right`` (P,) and their degrees of freedom, from those of the rows."""
    one, other = variance[left], variance[right]
    with np.errstate(invalid="ignore", divide="ignore"):
        of_both = (one + other) ** 2 / (one**2 / freedom[left] + other**2 / freedom[right])
    return one + other, np.where(one + other > 0, of_both, np.minimum(freedom[left], freedom[right]))


def row_variances(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of each of C >= 3 rows of ``values`` (C, B) around the block effects, and its degrees of freedom, (C,) each.

    Block effects are means over rows weighted against noisy ones; what they carry of the rows' own noise is taken off
    (E sum r^2 / (B - 1) = v (1 - 2 u) + sum of u_k^2 v_k for weights u of sum 1).
    """
    there = np.isfinite(values)
    y = np.where(there, values, 0.0)
    blocks = there.sum(axis=1)
    row, weight = np.zeros(len(values)), np.ones(len(values))
    variance = np.zeros(len(values))
    for _ in range(3):
        share = there * weight[:, None]
        share = share / np.maximum(share.sum(axis=0), np.finfo(float).tiny)
        for _ in range(1 if there.all() else 20):
            row = np.where(there, y - (share * (y - row[:, None])).sum(axis=0), 0).sum(axis=1) / np.maximum(blocks, 1)
        # With no value missing one pass is exact but for a constant, which the residuals do not see.
        residual = np.where(there, y - row[:, None] - (share * (y - row[:, None])).sum(axis=0), 0)
        squares = (residual**2).sum(axis=1) / np.maximum(blocks - 1, 1)
        u = weight / weight.sum()
        kept = np.maximum(1 - 2 * u, 0.3)
        of_blocks = (u**2 * squares / kept).sum() / (1 + (u**2 / kept).sum())
        variance = np.maximum((squares - of_blocks) / kept, 0.1 * squares)
        if not variance.any():
            break
        weight = 1 / np.maximum(variance, np.median(variance[variance > 0]))
    return variance, np.maximum(blocks - 1, 1) * (len(values) - 1) / len(values)


def moderated(variance: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (M,) drawn to their mean, and their degrees of freedom: as much as the log variances spread no more than
    those of equal variances would (Smyth 2004, section 6.2); one above FAR times the mean is left as it is."""
    common = variance.mean()
    if len(variance) < 2 or common <= 0:
        return variance, freedom
    logs = np.log(np.maximum(variance, LEAST * common)) - psi(freedom / 2) + np.log(freedom / 2)
    beyond = logs.var(ddof=1) - SAMPLING * polygamma(1, freedom / 2).mean()
    weight = min(MOST_WEIGHT, 2 * inverse_trigamma(beyond)) if beyond > 0 else MOST_WEIGHT
    drawn = (weight * common + freedom * variance) / (weight + freedom)
    far = variance > FAR * common
    return np.where(far, variance, drawn), np.where(far, freedom, weight + freedom)


def inverse_trigamma(value: float) -> float:
    """The x > 0 with trigamma(x) = ``value`` > 0, by Newton's method on 1 / trigamma, which is nearly straight (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, x)
        x = max(x + trigamma * (1 - trigamma / value) / polygamma(2, x), 1e-8)
    return float(x)


def closed(
    size: int, pairs: tuple[np.ndarray, np.ndarray], statistic: np.ndarray, freedom: np.ndarray, alpha: float
) -> np.ndarray:
    """Mask (size, size) of the pairs that no set of rows which might be equal holds.

    Such a set of p rows has no pair beyond the quantile for p: with a pair that is itself within it, it can only be made
    of rows that are within it of both.
    """
    table = critical_values(size, alpha)
    apart = np.zeros((size, size), bool)
    apart[pairs] = True
    apart |= apart.T
    for p in range(size, 1, -1):
        within = statistic < np.interp(1 / freedom, 1 / FREEDOM[::-1], table[p, ::-1])
        near = ~apart_of(size, pairs, ~within)
        shared = near.astype(np.float32) @ near.astype(np.float32)
        apart &= ~(near & (shared >= p))
        if not apart.any():
            break
    return apart


def apart_of(size: int, pairs: tuple[np.ndarray, np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Symmetric mask (size, size) of the ``pairs`` in the mask; the others are False."""
    made = np.zeros((size, size), bool)
    made[pairs] = mask
    return made | made.T


@lru_cache(maxsize=64)
def critical_values(size: int, alpha: float) -> np.ndarray:
    """Quantiles (size + 1, FREEDOM) of the studentised range of p of ``size`` rows over sqrt(2), at the level of Ryan,
    Einot, Gabriel and Welsch: 1 - (1 - alpha)^(p / size), and alpha for the two largest p; not falling with p.

    As ``scipy.stats.studentized_range.ppf`` to three digits; that takes a tenth of a second for each.
    """
    z = np.linspace(-8, 8, 401)
    width = np.concatenate([np.linspace(0, 9, 181), [1e3]])
    between = ndtr(z) - ndtr(z - width[:, None])
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    # The standard deviation's law as 400 points of its quantiles, closer to each other towards 0, where the tail comes from.
    place = (np.arange(400) + 0.5) / 400
    scale, mass = np.sqrt(2 * gammaincinv(FREEDOM[:, None] / 2, place**2) / FREEDOM[:, None]), 2 * place / 400
    made = np.full((size + 1, len(FREEDOM)), -np.inf)
    for p in range(2, size + 1):
        below = np.minimum(p * (between ** (p - 1) * density).sum(axis=1), 1)
        level = alpha if p >= size - 1 else 1 - (1 - alpha) ** (p / size)
        low, high = np.zeros(len(FREEDOM)), np.full(len(FREEDOM), 1e4)
        for _ in range(60):
            middle = (low + high) / 2
            short = np.interp(middle[:, None] * scale, width, below) @ mass < 1 - level
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        made[p] = np.maximum(made[p - 1], high / np.sqrt(2))
    return made
