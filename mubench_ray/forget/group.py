"""Whole groups that the data knows, as people ask to be forgotten: every recording of a speaker, every page of an author."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.forget.base import Draw, Sampler, percent, sampler
from mubench_ray.tasks.examples import Examples

#: How far, of what is asked for, the nearest number of whole groups may lie from it.
OFF = 0.2


@sampler("group", title="Whole groups that the data knows (speakers, recordings), drawn at random")
class OfGroups(Sampler):
    """Groups of the grouping ``by`` in random order, all of one before any of the next; D_F is as many whole ones as come nearest to the ratio."""

    exact = False

    by: str

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """Every example, a group after the other; raises MubenchError for a grouping that the data has not."""
        groups = self._groups(train)
        known = groups.unique()
        place = torch.empty(len(known), dtype=torch.int64)
        place[torch.from_numpy(draw.rng.permutation(len(known)))] = torch.arange(len(known))
        return torch.argsort(place[torch.searchsorted(known, groups)], stable=True)

    def size(self, order: Tensor, train: Examples, draw: Draw) -> int:
        """The end of the group that lies nearest to the ratio, of two the smaller; raises MubenchError where none is near."""
        ordered = self._groups(train)[order]
        ends = torch.cat([(ordered[1:] != ordered[:-1]).nonzero().flatten() + 1, torch.tensor([len(order)])])
        wanted = len(train) * draw.ratio / 100
        nearest = int(ends[(ends - wanted).abs().argmin()])
        if abs(nearest - wanted) > OFF * wanted:
            raise MubenchError(
                f"sampler group: ratio {draw.ratio:g} is no number of whole groups of {self.by}: the nearest is {percent(nearest, len(train)):g} % of D "
                f"({nearest} of {len(train)}); say about that."
            )
        return nearest

    @property
    def drawn_to_plan(self) -> bool:
        """Ratios that lie near each other may be the same groups."""
        return True

    def _groups(self, train: Examples) -> Tensor:
        if self.by not in train.groups:
            known = did_you_mean(self.by, train.groups) if train.groups else "It knows none of its examples."
            raise MubenchError(f"sampler group: by = {self.by!r} is no grouping of this data. {known}")
        return train.groups[self.by]
