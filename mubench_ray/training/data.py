"""What a training or unlearning run may see: positions of D_F, D_R, D_V, and their batches in an order that only seeds decide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mubench_ray.models.base import Model
from mubench_ray.randomness import torch_generator
from mubench_ray.tasks.base import Batch, Examples, Task


@dataclass(frozen=True)
class Rows:
    """A set of examples: a split and the positions of it that belong to the set."""

    examples: Examples
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def all_of(cls, examples: Examples) -> Rows:
        """Every row of a split."""
        return cls(examples, torch.arange(len(examples)))


def joins(rows: int, size: int) -> bool:
    """Whether a pass over ``rows`` examples in batches of ``size`` would leave one over, which then belongs to the batch before it."""
    return 1 < size < rows and rows % size == 1


def batches_of(rows: int, size: int) -> int:
    """Number of batches in one pass over ``rows`` examples."""
    return math.ceil(rows / size) - joins(rows, size)


def in_batches(order: Tensor, size: int) -> list[Tensor]:
    """An order of examples (N,) cut into batches of ``size``; the last may be shorter, but never one example after others: it joins the batch before it.

    BatchNorm has no statistics of one example where its map is 1 x 1, and poor ones of a small map.
    """
    batches = list(order.split(size))
    return [*batches[:-2], torch.cat(batches[-2:])] if joins(len(order), size) else batches


class UnlearningData:
    """The sets that unlearning may draw from, by name. D_Test is not among them, on purpose."""

    def __init__(self, task: Task, model: Model, sets: dict[str, Rows], device: str = "cpu") -> None:
        self.task, self.model, self.sets, self.device = task, model, sets, device

    def rows(self, name: str) -> Rows:
        """``train``, ``forget``, ``retain`` or ``validation``; raises KeyError for a set that this run must not see."""
        if name not in self.sets:
            raise KeyError(f"this run has no {name!r} set; it has {sorted(self.sets)}")
        return self.sets[name]

    def batch(
        self, rows: Rows, picked: Tensor, forget: Tensor | None = None, augment: torch.Generator | None = None
    ) -> Batch:
        """The examples at ``picked`` (places in ``rows``) on the device; ``forget`` marks those of D_F."""
        columns = rows.examples.take(rows.positions[picked])
        if augment is not None:
            columns = self.task.augment(columns, augment)
        columns = {name: column.to(self.device, non_blocking=True) for name, column in columns.items()}
        if forget is None:
            forget = torch.full((len(picked),), rows is self.sets.get("forget"))
        encode = partial(self.model.encode, self.task)
        return Batch(
            columns, encode(columns), forget.to(self.device), encode=encode if self.task.reads_targets else None
        )

    def passes(self, name: str, size: int, stream: tuple, augment: bool = False, first: int = 0) -> Iterator[Batch]:
        """Batches of shuffled passes over a set, without end, from batch ``first`` on; ``stream`` seeds the order of every pass.

        ``mixed`` is D_R u D_F in one shuffled pass.
        """
        if name == "mixed":
            retain, forget = self.rows("retain"), self.rows("forget")
            rows = Rows(retain.examples, torch.cat([retain.positions, forget.positions]))
            member = torch.cat([torch.zeros(len(retain), dtype=torch.bool), torch.ones(len(forget), dtype=torch.bool)])
        else:
            rows, member = self.rows(name), None
        epoch, skip = divmod(first, batches_of(len(rows), size))
        while True:
            order = torch.randperm(len(rows), generator=torch_generator(*stream, name, epoch))
            for number, picked in enumerate(in_batches(order, size)):
                if number < skip:
                    continue
                generator = torch_generator(*stream, name, epoch, number, "augment") if augment else None
                yield self.batch(rows, picked, member[picked] if member is not None else None, generator)
            epoch, skip = epoch + 1, 0

    def count(self, name: str) -> int:
        """Number of examples of a set, or of ``mixed``."""
        return sum(len(self.rows(part)) for part in (("retain", "forget") if name == "mixed" else (name,)))

    def sizes(self, name: str, size: int) -> list[int]:
        """Number of examples of each batch of one pass."""
        rows = self.count(name)
        batches = batches_of(rows, size)
        return [size] * (batches - 1) + [rows - size * (batches - 1)] if rows else []

    def steps(self, name: str, size: int, epochs: float) -> int:
        """Number of batches in ``epochs`` passes (a fraction is rounded up to whole batches)."""
        return math.ceil(round(epochs * batches_of(self.count(name), size), 9))
