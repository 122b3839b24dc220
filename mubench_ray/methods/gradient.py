"""Gradients that a method makes itself, for formulas that a loss alone cannot say: of one term, masked, clipped or weighed against another's."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.training.context import Context


def gradients_of(ctx: Context, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of a loss in every parameter that is trained, by name, the same in every process; zeros where it has none. None is left behind."""
    # Not torch.autograd.grad: the meter that counts FLOs cannot look into it.
    loss.backward()
    if ctx.world.size > 1:
        ctx.world.average_gradients(ctx.network)
    trained = {name: p for name, p in ctx.network.named_parameters() if p.requires_grad}
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained.items()}
    for parameter in trained.values():
        parameter.grad = None
    return found


def with_gradient(ctx: Context, value: Tensor, gradients: dict[str, Tensor]) -> Tensor:
    """A scalar with this value and these gradients: what the optimiser is to find where no loss has them."""
    parameters = dict(ctx.network.named_parameters())
    line = sum((gradient * parameters[name]).sum() for name, gradient in gradients.items())
    return line + (value - line).detach()
