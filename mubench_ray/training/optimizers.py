"""Optimisers and schedules of the loop."""

from __future__ import annotations

import math

import torch
from torch import nn

from mubench_ray.training.phase import Optimizer
from mubench_ray.trial import Training, Unlearning


def build_optimizer(
    spec: Optimizer, defaults: Training | Unlearning, lr: float, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """A torch optimiser without weight decay of its own: the loop adds the decay to the gradients, under the mask."""
    kind = spec.kind or defaults.optimizer
    if kind == "sgd":
        momentum = defaults.momentum if spec.momentum is None else spec.momentum
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum)
    return torch.optim.Adam(parameters, lr=lr)


def scheduled(schedule: str, step: float, total: float, lr: float, floor: float) -> float:
    """Learning rate of step 0..total-1, or of an epoch."""
    if schedule == "constant" or total <= 1:
        return lr
    done = step / total
    if schedule == "cosine":
        return floor + (lr - floor) * (1 + math.cos(math.pi * done)) / 2
    if schedule == "linear":
        return floor + (lr - floor) * (1 - done)
    if schedule == "peak":
        rise = (total + 1) // 2
        return lr * ((step + 1) / rise if step < rise else max(0.0, (total - step) / (total + 1 - rise)))
    half = total / 2
    return lr * ((step + 1) / half if step + 1 <= half else min(1.0, max(0.0, (total - step) / half)))
