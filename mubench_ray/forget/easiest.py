"""What a network of the same kind finds easiest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mubench_ray.forget.base import Draw, sampler
from mubench_ray.forget.scored import Scored
from mubench_ray.tasks.examples import Examples


@sampler("easiest", title="The examples on which a scoring network's loss is smallest")
class Easiest(Scored):
    """By rising loss, after training on them, of a network that no trial unlearns from."""

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """The smallest loss first."""
        return torch.from_numpy(np.argsort(draw.scores[0]["loss"], kind="stable"))
