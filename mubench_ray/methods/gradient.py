"""Gradients that a method makes itself, for formulas that a loss alone cannot say: of one term, masked, clipped or weighed against another's."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.tasks.base import Batch
from mubench_ray.training.context import Context


def whole_losses(ctx: Context, batch: Batch) -> Tensor:
    """The task's loss of f_U on each example, (B,), computed whole by every process, so that its gradient is the whole batch's on each."""
    return ctx.task.losses(ctx.task.outputs(ctx.network, batch), batch)


def gradients_of(ctx: Context, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of a loss in every parameter that is trained, by name; zeros where it has none. No gradient is left behind."""
    # Not torch.autograd.grad: the meter that counts FLOs cannot look into it.
    loss.backward()
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
