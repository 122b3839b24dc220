"""Rows of data: columns of equal length, held in memory or mapped from a converted file; splits, and how D_V is set apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from mubench_ray.errors import DataError
from mubench_ray.randomness import numpy_generator

Columns = dict[str, Tensor]

#: Split seed and validation share of Deep Unlearn (arXiv 2410.01276): 15 % of the training set is never trained on.
VALIDATION_SEED = 123
VALIDATION_SHARE = 0.15
#: Columns of pixels, which models divide by 255, and of samples, which they divide by 32768.
PICTURES, SOUNDS = ("image", "images", "video"), ("waveform",)


@dataclass(frozen=True)
class Examples:
    """The rows of one split as columns of equal length.

    ``columns`` maps a name (``image`` uint8 (N, C, H, W), ``labels`` int64 (N,), ...) to a tensor; ``source_index`` holds each row's
    position in the data set's own training or test list, the numbering that released forget lists use. ``groups`` are what the data knows of its
    examples and no network is shown (``superclass``): int64 (N,) each, for samplers of forget sets; of a shifted set ``test_row``, where its examples are
    those of the test set changed: their positions in that list. ``published`` are the forget sets that come with the data, by their names there
    (``forget10``): bool (N,) each. ``carved`` says that they were set apart from others of one list (``carve_validation``).
    """

    columns: Columns
    source_index: Tensor
    groups: dict[str, Tensor] = field(default_factory=dict, kw_only=True)
    published: dict[str, Tensor] = field(default_factory=dict, kw_only=True)
    carved: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.source_index)

    @property
    def labels(self) -> Tensor:
        """Class of every row, int64 (N,)."""
        return self.columns["labels"]

    def take(self, positions: Tensor) -> Columns:
        """The columns at ``positions``; ``index`` holds the positions themselves."""
        return {**{name: column[positions] for name, column in self.columns.items()}, "index": positions}

    def select(self, positions: Tensor) -> Self:
        """The rows at ``positions`` as a smaller set."""
        columns = {name: column[positions] for name, column in self.columns.items()}
        told = {
            kind: {name: values[positions] for name, values in getattr(self, kind).items()}
            for kind in ("groups", "published")
        }
        return replace(self, columns=columns, source_index=self.source_index[positions], **told)


@dataclass(frozen=True)
class MappedColumn:
    """A column in a file that the operating system pages in as it is read: ``chunks`` of ``size`` rows each (the last may be shorter)."""

    chunks: Sequence[np.ndarray]
    size: int

    def take(self, rows: Tensor) -> Tensor:
        """The rows as a tensor in memory, (len(rows), ...)."""
        first = self.chunks[0]
        taken = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for i, row in enumerate(rows.tolist()):
            taken[i] = self.chunks[row // self.size][row % self.size]
        return torch.from_numpy(taken)


@dataclass(frozen=True)
class MappedExamples(Examples):
    """Examples whose large columns stay in a memory-mapped file; a subset is a list of its rows, so selecting copies no data.

    ``columns`` are those in memory, one entry an example; ``mapped`` those in the file, of which this set has ``rows``.
    """

    mapped: dict[str, MappedColumn] = field(default_factory=dict)
    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def take(self, positions: Tensor) -> Columns:
        """The columns at ``positions``, read from the file where they are mapped."""
        rows = self.rows[positions]
        return {name: column.take(rows) for name, column in self.mapped.items()} | super().take(positions)

    def select(self, positions: Tensor) -> Self:
        """The rows at ``positions`` as a smaller set on the same file."""
        return replace(super().select(positions), rows=self.rows[positions])


Rowed = TypeVar("Rowed", bound=Examples)


@dataclass(frozen=True)
class Splits:
    """D (train), D_V (validation, never trained on), D_Test, the shifted test sets that transfer is measured on, by name, for a shadow model the half of the
    training set that it never sees, and how many examples the data's own training list has, which ``source_index`` of D counts in (0: not known)."""

    train: Examples
    validation: Examples
    test: Examples
    shifted: dict[str, Examples] = field(default_factory=dict)
    unseen: Examples | None = None
    listed: int = 0


def carve_validation(
    train: Rowed, share: float = VALIDATION_SHARE, drawn: tuple[str, int] = ("validation", VALIDATION_SEED)
) -> tuple[Rowed, Rowed]:
    """Split the original training set into (train, validation), class-proportionally, with the fixed split seed 123; ``drawn`` names another draw and its
    seed."""
    rng = numpy_generator(*drawn, len(train))
    held = torch.zeros(len(train), dtype=torch.bool)
    for label in train.labels.unique():
        rows = (train.labels == label).nonzero().flatten()
        chosen = rng.permutation(len(rows))[: round(share * len(rows))]
        held[rows[torch.from_numpy(chosen)]] = True
    kept, apart = (train.select(rows.nonzero().flatten()) for rows in (~held, held))
    return replace(kept, carved=False), replace(apart, carved=True)


def joined(train: Examples, validation: Examples) -> Examples:
    """The training list that D_V was carved from, in its order; raises DataError where D_V was not."""
    if not validation.carved:
        raise DataError(
            "validation: test-half: D_V was not set apart by carve_validation, so whether it is a part of the data's training list is not known: a task "
            "whose D_V comes from a list of its own says `carves_validation = False`."
        )
    order = torch.cat([train.source_index, validation.source_index]).argsort()

    def both(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.cat([values, theirs[name]])[order] for name, values in ours.items()}

    more: dict[str, Any] = {}
    if isinstance(train, MappedExamples) and isinstance(validation, MappedExamples):
        more["rows"] = torch.cat([train.rows, validation.rows])[order]
    return replace(
        train,
        columns=both(train.columns, validation.columns),
        source_index=torch.cat([train.source_index, validation.source_index])[order],
        groups=both(train.groups, validation.groups),
        published=both(train.published, validation.published),
        **more,
    )


def validated_on_test(splits: Splits, carves_validation: bool) -> Splits:
    """The splits with D_V one half of the test set, class by class, and D_Test the other, also where a shifted set is made of it; D is all of the data's
    training list, of which D_V (``carves_validation``) was a part. Raises DataError for a test set of no two halves."""
    test, validation = carve_validation(splits.test, 0.5)
    if not len(test) or not len(validation):
        raise DataError(f"validation: test-half: a test set of {len(splits.test)} examples has no two halves.")
    train = joined(splits.train, splits.validation) if carves_validation else splits.train
    shifted = {name: _of_rows(examples, test.source_index) for name, examples in splits.shifted.items()}
    return replace(splits, train=train, validation=validation, test=test, shifted=shifted)


def _of_rows(examples: Examples, rows: Tensor) -> Examples:
    if "test_row" not in examples.groups:
        return examples
    return examples.select(torch.isin(examples.groups["test_row"], rows).nonzero().flatten())


def listed(splits: Splits, carves_validation: bool) -> int:
    """How many examples the data's own training list has, where D and what was carved of it are all of them; 0 where that is not known."""
    parts = [splits.train, splits.validation] if carves_validation and splits.validation.carved else [splits.train]
    indices = torch.cat([part.source_index for part in parts])
    whole = len(indices) > 0 and torch.equal(indices.sort().values, torch.arange(len(indices)))
    return len(indices) if whole else 0


def limit(splits: Splits, size: int, tested: int = 1000) -> Splits:
    """Class-proportional parts of all splits: ``size`` training examples, the same share of D_V, and of every test set at least ``tested``. Raises DataError
    where there are fewer: the whole set under another name would be another trial."""
    if size > len(splits.train):
        raise DataError(
            f"subset: {size} is more than the {len(splits.train)} training examples that there are; leave it out for all of them."
        )
    share = size / len(splits.train)

    def part(examples: Examples, at_least: int = 0) -> Examples:
        keep = max(share, min(1.0, at_least / len(examples)))
        return carve_validation(examples, 1 - keep)[0] if keep < 1 else examples

    shifted = {name: part(examples, tested) for name, examples in splits.shifted.items()}
    parts = part(splits.train), part(splits.validation), part(splits.test, tested)
    return Splits(*parts, shifted, listed=splits.listed)


def out_of_range(name: str, columns: Columns) -> list[str]:
    """Pixels that do not span 0..255 and samples that do not span int16, whatever type they have, and what is not finite."""
    faults = []
    for key, column in columns.items():
        low, high = float(column.min()), float(column.max())
        where = f"{key!r} of {name} lies in {low:g}..{high:g}"
        if not bool(torch.isfinite(column).all()):
            faults.append(f"{key!r} of {name} is not finite everywhere")
        elif key in PICTURES and low >= -1 and high <= 1:
            faults.append(f"{where}, which normalisation makes nearly black: give uint8 pixels 0..255 (times 255)")
        elif key in PICTURES and not 0 <= low <= high <= 255:
            faults.append(
                f"{where}: give uint8 pixels 0..255, not normalised ones; the model normalises by mean and std"
            )
        elif key in SOUNDS and low >= -1 and high <= 1:
            faults.append(f"{where}: give int16 samples -32768..32767 (times 32767)")
        elif key in SOUNDS and not -32768 <= low <= high <= 32767:
            faults.append(f"{where}: give int16 samples -32768..32767")
    return faults
