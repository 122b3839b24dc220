"""SFRon: ascent on what is forgotten, under a mask of the weights that matter to it, within descent on what is kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    integer,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.methods.gradient import gradients_of, with_gradient
from mubench_ray.methods.importance import importance_phase, taken
from mubench_ray.tasks.base import Batch

#: Beside the Fisher information and the losses, so that nothing is divided by zero.
LITTLE = 1e-15


@method("sfron", "sfr-on", title="SFRon", cites="Huang et al. 2024, arXiv 2409.19732")
class SFRon(Method):
    """Every step: grad CE(D_R); every ``period``-th beside it: mask * clip(-a_t grad sum_i w_i CE(x_i) / sum_i w_i) on D_F, w_i = CE(x_i)^-weighting.

    Mask: F_forget / F_retain >= threshold, F the diagonal of the Fisher information (mean squared gradient, example by example). a_t falls from
    ``alpha`` to 0 along half a cosine, as the learning rate does. Defaults are the released ones of CIFAR-10 (SGD at .01, momentum .9, 1,500 steps of 128,
    which are as many epochs as the default).

    Released code takes the two steps one after the other, with one optimiser; here they are one. Its interpolation of slow and fast weights is released with
    a share of 1, which changes nothing, and is left out. Its Fisher squares gradients of whole batches.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, "no paper runs it so: the generic range of Adam (docs/add-a-method.md)"),
        "sgd": LearningRate(
            0.01,
            1e-4,
            0.1,
            "its released code, SGD at .01 on CIFAR-10 (arXiv 2409.19732): two decades below and one above",
        ),
    }
    reads_weights = True

    version = 2

    epochs: float = uniform(1, 10, default=4.3)
    alpha: float = log_uniform(1.0, 100.0, default=25.0)
    period: int = integer(1, 10, default=5)
    weighting: float = uniform(0.0, 1.0, default=0.5)
    threshold: float = log_uniform(0.1, 10.0, default=1.0)
    clip: float = log_uniform(0.5, 50.0, default=7.0)

    def phases(self, ctx: Context) -> list[Phase]:
        """The mask, then the steps."""
        cosine = Optimizer(schedule="cosine")
        return [
            importance_phase(self.summed, torch.square, self.make_mask),
            Phase("unlearn", "paired", self.step, epochs=self.epochs, optimizer=cosine, kind=self.kind),
        ]

    def summed(self, ctx: Context, example: Batch) -> Tensor:
        """The loss of one example."""
        return ctx.losses(example).sum()

    def make_mask(self, ctx: Context) -> None:
        """Which entries the ascent may move: none where the budget stopped short of D_F's or D_R's first example."""
        if found := taken(ctx):
            forget, retain = found
            mask = {name: (forget[name] + LITTLE) / (retain[name] + LITTLE) >= self.threshold for name in forget}
        else:
            mask = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in ctx.network.named_parameters()}
        ctx.state["mask"] = mask
        ctx.state |= {"steps": 0, "seen": 0}

    def kind(self, step: int) -> str:
        """A step with the ascent costs more than one without."""
        return "ascend and descend" if step % self.period == 0 else "descend"

    def step(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """CE(D_R), every ``period``-th time with the ascent."""
        share = ctx.state["seen"] / (self.epochs * ctx.share * len(ctx.data.rows("retain")))
        ascends = ctx.state["steps"] % self.period == 0
        ctx.state["steps"], ctx.state["seen"] = ctx.state["steps"] + 1, ctx.state["seen"] + len(retain)
        if not ascends:
            return ctx.loss(retain)
        losses = ctx.losses(forget)
        weights = (losses.detach().pow(self.weighting) + LITTLE).reciprocal()
        goal = (
            -self.alpha * (1 + math.cos(math.pi * share)) / 2 * ctx.mean(losses * weights * len(forget) / weights.sum())
        )
        gradients = {name: g * ctx.state["mask"][name] for name, g in gradients_of(ctx, goal).items()}
        length = torch.stack([g.norm() for g in gradients.values()]).norm()
        factor = (self.clip / (length + 1e-6)).clamp(max=1.0)
        return ctx.loss(retain) + with_gradient(ctx, goal, {name: g * factor for name, g in gradients.items()})
