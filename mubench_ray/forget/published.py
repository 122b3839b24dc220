"""Forget sets that come with the data, as its authors drew them."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.forget.base import Draw, Sampler, percent, sampler
from mubench_ray.tasks.examples import Examples


@sampler("published", title="The forget sets that come with the data")
class Published(Sampler):
    """The set of that name, or without one the set of that ratio: a suite that leaves its ratios out forgets each of them."""

    exact = False

    split: str | None = None

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """The examples of the set, as the data has them; raises MubenchError where the data has no such set."""
        sets = self._sets(train)
        fitting = [name for name, share in sets.items() if share == draw.ratio]
        if len(fitting) != 1:
            told = ", ".join(f"{name} of {share:g} %" for name, share in sets.items())
            raise MubenchError(
                f"sampler published: {len(fitting) or 'no'} published sets are {draw.ratio:g} % of D; this data has {told}."
            )
        return train.published[fitting[0]].nonzero().flatten()

    def size(self, order: Tensor, train: Examples, draw: Draw) -> int:
        """All of it."""
        return len(order)

    def shares(self, train: Examples) -> list[float]:
        """The ratios of the sets."""
        return sorted(set(self._sets(train).values()))

    @property
    def random(self) -> bool:
        """A published set is what it is."""
        return False

    @property
    def whole(self) -> bool:
        """Always."""
        return True

    def _sets(self, train: Examples) -> dict[str, float]:
        """Each set that may be meant, and its share of D in percent."""
        names = list(train.published) if self.split is None else [self.split]
        if not set(names) <= train.published.keys() or not names:
            known = did_you_mean(self.split or "", train.published) if train.published else "It comes with none."
            raise MubenchError(f"sampler published: {self.split or 'it'} is no forget set of this data. {known}")
        return {name: percent(int(train.published[name].sum()), len(train)) for name in names}
