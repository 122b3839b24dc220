"""A random part of every class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mubench_ray.forget.base import Draw, Sampler, sampler
from mubench_ray.tasks.examples import Examples


@sampler("class_balanced", title="The same share of every class, as in MU-Bench's released lists")
class ClassBalanced(Sampler):
    """Shuffled so that every prefix holds each class in its own proportion."""

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """Every example, the classes interleaved."""
        labels = train.labels.numpy()
        key = np.empty(len(labels))
        for label in np.unique(labels):
            rows = draw.rng.permutation(np.flatnonzero(labels == label))
            key[rows] = (np.arange(len(rows)) + draw.rng.random()) / len(rows)
        return torch.from_numpy(np.argsort(key, kind="stable"))
