"""What samplers have in common that read scoring networks, and which networks those are."""

from __future__ import annotations

import functools
import json
from typing import Any

from mubench_ray.forget.base import Sampler, configured
from mubench_ray.randomness import derive
from mubench_ray.trial import ForgetSet, Recipe


class Scored(Sampler):
    """Base of a sampler that reads ``draw.scores``: of an original of the task that is trained for it, with a seed that no trial has.

    ``model`` names whose network scores, so that all models of a suite forget the same; each model's own unless it is named. The recipe of the network is
    a part of the forget set, which therefore says no more of it.
    """

    model: str | None = None

    @property
    def pool(self) -> int | None:
        """How many halves of D have a scoring network each; None: one network of all of D."""
        return None

    @property
    def random(self) -> bool:
        """The scores decide."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """Without the model."""
        return {name: value for name, value in super().options.items() if name != "model"}


def scoring_networks(forget: ForgetSet | None) -> tuple[Recipe, ...]:
    """Recipes of the networks that score D for a forget set, made from its one recipe: that of all of D, or one of each half; none for most."""
    if forget is None or forget.scored_by is None:
        return ()
    sampler = configured(forget)
    if not isinstance(sampler, Scored) or sampler.pool is None:
        return (forget.scored_by,)
    return _of_halves(forget.scored_by.model_dump_json(), sampler.pool)


@functools.lru_cache(maxsize=64)
def _of_halves(recipe: str, pool: int) -> tuple[Recipe, ...]:
    fields = json.loads(recipe)
    return tuple(Recipe.model_validate(fields | {"half": half, "seed": scoring_seed(half)}) for half in range(pool))


def scoring_seed(half: int | None) -> int:
    """The training seed of a scoring network. It is beyond the seeds that a suite can name (2**32), so that it is no original's."""
    return derive("scoring", half) | 2**32
