"""Groups of rows as integer codes, so that everything over groups is one numpy call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.report.statistics import LEVELS, bootstrap_interval, crossed_interval, with_examples


@dataclass(frozen=True)
class Groups:
    """``code`` (N,) numbers the group of each row 0..G-1; ``first`` (G,) is one row of each group."""

    code: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def count(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Rows (in the mask) a group, (G,)."""
        return np.bincount(self.code if mask is None else self.code[mask], minlength=len(self))

    def members(self) -> list[np.ndarray]:
        """The rows of each group, G arrays of places, ascending."""
        ends = np.cumsum(self.count())
        return np.split(np.argsort(self.code, kind="stable"), ends[:-1]) if len(self) else []

    def mixed(self, column: pa.ChunkedArray, among: np.ndarray | None = None) -> np.ndarray:
        """Mask of the rows (N,) whose group does not have one value of the column throughout (in the rows of a mask), null being a value."""
        rows = np.arange(len(self.code)) if among is None else np.flatnonzero(among)
        codes, owner = encode(column)[rows], self.code[rows]
        first = np.zeros(len(self), np.int64)
        first[owner[::-1]] = codes[::-1]
        return np.isin(self.code, owner[codes != first[owner]])

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of the finite values a group, (G,); NaN where there are none."""
        there = np.isfinite(values)
        total = np.bincount(self.code[there], weights=values[there], minlength=len(self))
        with np.errstate(invalid="ignore"):
            return total / np.where((n := self.count(there)) > 0, n, np.nan)

    def deviation(self, values: np.ndarray) -> np.ndarray:
        """Standard deviation (n - 1) of the finite values a group, (G,); NaN with fewer than two."""
        there = np.isfinite(values)
        n = self.count(there)
        squares = (values[there] - self.mean(values)[self.code[there]]) ** 2
        total = np.bincount(self.code[there], weights=squares, minlength=len(self))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n > 1, np.sqrt(total / (n - 1)), np.nan)


def group_by(table: pa.Table, names: list[str]) -> Groups:
    """Rows with equal values of the named columns, null being a value; groups are ordered by those columns' first
    appearance."""
    code = np.zeros(len(table), np.int64)
    for name in names:
        code, _ = combine(code, encode(table[name]))
    first, code = np.unique(code, return_index=True, return_inverse=True)[1:]
    return Groups(code, first)


def encode(column: pa.ChunkedArray) -> np.ndarray:
    """Integer codes (N,) of a column's values."""
    encoded = column.dictionary_encode(null_encoding="encode").combine_chunks()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64 (N,); NaN for null."""
    return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)


def positions(values: pa.ChunkedArray | pa.Array, within: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Where each of the values (N,) first stands ``within``; -1 where it does not."""
    places = pc.call_function("index_in", [values], pc.SetLookupOptions(value_set=within))
    return pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def combine(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dense codes of the pairs, and for each pair its left code."""
    width = int(right.max(initial=0)) + 1
    pair = left * width + right
    span = (int(left.max(initial=-1)) + 1) * width
    if span > 8 * len(pair) + 1024:
        pairs, code = np.unique(pair, return_inverse=True)
        return code, pairs // width
    there = np.zeros(span, bool)  # numbering what is there is quicker than sorting it
    there[pair] = True
    return np.cumsum(there)[pair] - 1, np.flatnonzero(there) // width


def position_within(code: np.ndarray, inner: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Number each row's ``inner`` value 0.. within its group, and count the distinct ones a group: (N,), (G,)."""
    pair, owner = combine(code, inner)
    count = np.bincount(owner, minlength=groups)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    return pair - start[code], count


#: What an interval is over: one level of seeds, or both of two that are crossed, of which a few claim none.
OVER = ("training seed", "forget draw", "unlearning seed")
CROSSED = "training seed and forget draw, crossed"
FEW = f"none: training seeds and forget draws are crossed, and of one there are fewer than {LEVELS}"


class SeedLevels:
    """The seeds behind each group's rows, arranged by what varies: training seed > forget draw > unlearning seed.

    The outermost level with more than one member is what the interval is over, and everything below it is averaged
    first: with nested levels the means of the outer units are independent, and carry the variance of the inner levels
    already; counting those again would count it twice (Davison & Hinkley 1997, Bootstrap Methods, section 3.8). Forget
    draws that are shared between training seeds are crossed, not nested, and their variance is told apart from that of
    the seeds. ``level`` (G,) says which it is.
    """

    def __init__(self, groups: Groups, training_seed: np.ndarray, forget_seed: np.ndarray, seed: np.ndarray) -> None:
        size = len(groups)
        training, trainings = position_within(groups.code, training_seed, size)
        draw, draws = position_within(groups.code, forget_seed, size)
        unlearning, _ = position_within(groups.code, seed, size)
        both = combine(combine(groups.code, training)[0], draw)[0]
        pairs = np.bincount(groups.code[np.unique(both, return_index=True)[1]], minlength=size)
        crossed = (trainings > 1) & (draws > 1) & (pairs > draws)
        level = np.where(trainings > 1, 0, np.where(draws > 1, 1, 2))
        self.groups = groups
        few = crossed & (np.minimum(trainings, draws) < LEVELS)
        self.level = np.array([*OVER, CROSSED, FEW])[np.where(few, 4, np.where(crossed, 3, level))]
        self.crossed = crossed
        self.outer = np.choose(level[groups.code], [training, draw, unlearning])
        self.inner = np.where(crossed[groups.code], draw, 0)

    def seed_means(self, values: np.ndarray) -> np.ndarray:
        """Means (G, T, D) over unlearning seeds of ``values`` (N,); NaN where no trial has these seeds. D is 1 unless draws are
        crossed."""
        size, width, depth = len(self.groups), int(self.outer.max(initial=0)) + 1, int(self.inner.max(initial=0)) + 1
        flat = (self.groups.code * width + self.outer) * depth + self.inner
        return Groups(flat, np.arange(size * width * depth)).mean(values).reshape(size, width, depth)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the ``seed_means``, (G,); NaN where there is no value."""
        return _mean(self.seed_means(values))

    def estimate(
        self, values: np.ndarray, examples: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean over the ``seed_means`` and its 95% interval, each (G,); NaN where there is no value, or too few seeds for an
        interval. The values are shares of that many distinct ``examples`` (G,), of which they are a sample too; NaN, or
        without them, the interval is over seeds alone."""
        means = self.seed_means(values)
        plain = np.where(self.crossed, np.nan, means[:, :, 0].T).T
        low, high = bootstrap_interval(plain)
        for group in np.flatnonzero(self.crossed):
            own = means[group]
            own = own[np.isfinite(own).any(axis=1)][:, np.isfinite(own).any(axis=0)]
            if min(own.shape) > 1:
                low[group], high[group] = crossed_interval(own)
            elif own.size > 1:
                low[group], high[group] = bootstrap_interval(own.ravel())
        mean = _mean(means)
        return (mean, low, high) if examples is None else (mean, *with_examples(mean, low, high, examples))


def _mean(means: np.ndarray) -> np.ndarray:
    there = np.isfinite(means)
    with np.errstate(invalid="ignore"):
        return np.where(there, means, 0).sum(axis=(1, 2)) / np.where((n := there.sum(axis=(1, 2))) > 0, n, np.nan)
