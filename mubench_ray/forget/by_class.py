"""All that is of some classes, or of some groups that the data itself knows."""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.forget.base import Draw, Sampler, percent, sampler
from mubench_ray.tasks.examples import Examples


@sampler("class", title="Whole classes, or other groups that the data knows (superclasses)")
class OfClass(Sampler):
    """The examples of ``classes`` and no others, all of them: the ratio is then what they are of D.

    ``by`` counts classes in another grouping of the data (``superclass`` of cifar100). ``part`` allows a ratio below their share: a random part of them.
    """

    exact = False

    classes: list[int] = Field(min_length=1)
    by: str = "class"
    part: bool = False

    @field_validator("classes")
    @classmethod
    def _once_each(cls, classes: list[int]) -> list[int]:
        if twice := [number for i, number in enumerate(classes) if number in classes[:i]]:
            raise ValueError(f"{twice[0]} is named twice")
        return classes

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """The examples of the classes, shuffled; raises MubenchError for a class or a grouping that the data has not."""
        rows = self._rows(train)
        return rows[torch.from_numpy(draw.rng.permutation(len(rows)))]

    def _rows(self, train: Examples) -> Tensor:
        labels = self._labels(train)
        known = set(labels.unique().tolist())
        if missing := [number for number in self.classes if number not in known]:
            raise MubenchError(
                f"sampler class: {self.by} {missing[0]} is not in the training set; it has {sorted(known)}."
            )
        return torch.isin(labels, torch.tensor(self.classes)).nonzero().flatten()

    def among(self, examples: Examples) -> Tensor | None:
        """Those of the classes; None where the split does not know the grouping."""
        known = self.by in ("class", *examples.groups)
        return torch.isin(self._labels(examples), torch.tensor(self.classes)) if known else None

    def size(self, order: Tensor, train: Examples, draw: Draw) -> int:
        """All of them, or ``part``; raises MubenchError for a ratio that is not their share, or with ``part`` is no part of it."""
        share, wanted = percent(len(order), len(train)), round(len(train) * draw.ratio / 100)
        told = f"sampler class: {self.by} {', '.join(map(str, self.classes))} is {share:g} % of D ({len(order)} of {len(train)})"
        if self.part and wanted >= len(order):
            raise MubenchError(f"{told}, and ratio {draw.ratio:g} with part: true asks for {wanted}: say less.")
        if not self.part and draw.ratio != share:
            raise MubenchError(
                f"{told}, and ratio {draw.ratio:g} is not that: leave `ratios` out of the suite to forget the whole, or say part: true beside the classes "
                f"for a ratio below {share:g}."
            )
        return wanted if self.part else len(order)

    def shares(self, train: Examples) -> list[float]:
        """The one ratio under which the whole is known."""
        return [percent(len(self._rows(train)), len(train))]

    @property
    def random(self) -> bool:
        """A part is drawn, the whole is not."""
        return self.part

    @property
    def whole(self) -> bool:
        """Unless a part is asked for."""
        return not self.part

    @property
    def drawn_to_plan(self) -> bool:
        """A part must be smaller than the whole."""
        return self.part

    def _labels(self, train: Examples) -> Tensor:
        if self.by == "class":
            return train.labels
        if self.by not in train.groups:
            known = did_you_mean(self.by, ["class", *train.groups])
            raise MubenchError(f"sampler class: by = {self.by!r} is no grouping of this data. {known}")
        return train.groups[self.by]
