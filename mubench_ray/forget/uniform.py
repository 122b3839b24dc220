"""A random part of D."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.forget.base import Draw, Sampler, sampler
from mubench_ray.tasks.examples import Examples


@sampler("uniform", title="Every example equally likely")
class Uniform(Sampler):
    """A permutation."""

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """Every example, shuffled."""
        return torch.from_numpy(draw.rng.permutation(len(train)))
