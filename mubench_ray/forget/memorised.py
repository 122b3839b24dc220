"""What is memorised: known only to networks that were trained on it."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mubench_ray.forget.base import Draw, sampler
from mubench_ray.forget.scored import Scored
from mubench_ray.tasks.examples import Examples


@sampler("memorised", "memorized", title="The most memorised examples: known only to networks trained on them")
class Memorised(Scored):
    """By falling memorisation (Feldman & Zhang 2020, arXiv 2008.03703): how often networks whose half of D holds the example get it right, minus how often
    those do whose half does not. The halves are those of a shadow pool; ties go by the probability of the true target in place of right or wrong."""

    halves: int = Field(8, ge=2, multiple_of=2)

    @property
    def pool(self) -> int:
        """A network a half."""
        return self.halves

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """The most memorised first; what no network was trained on (an odd example out) last."""
        seen = np.stack([scores["seen"] for scores in draw.scores])
        right = gap(np.stack([scores["correct"] for scores in draw.scores]), seen).round(9)  # equal shares are equal
        likely = gap(np.exp(-np.stack([scores["loss"] for scores in draw.scores])), seen)
        return torch.from_numpy(np.lexsort((-likely, -right)))


def gap(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean of ``values`` (networks, N) over the networks that saw an example minus that over those that did not, (N,); -1 where either are none."""
    inside, outside = seen.sum(0), (1 - seen).sum(0)
    both = (inside > 0) & (outside > 0)
    means = (values * seen).sum(0) / np.maximum(inside, 1) - (values * (1 - seen)).sum(0) / np.maximum(outside, 1)
    return np.where(both, means, -1.0)
