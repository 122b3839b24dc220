"""FCS: flatten the predictions on D_F, push them away from D_R by contrast, repair on D_R, in turns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch, Task


@method(
    "fcs",
    "fanchuan",
    title="FCS",
    cites="fanchuan, NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276",
)
class FCS(Method):
    """One D_F pass of KL(uniform || f_U); then every epoch a contrastive pass over D_F paired with D_R and a CE pass over D_R.

    Contrast: -mean log_softmax(z_f stopgrad(z_r)^T / T) over all pairs of a D_F and a D_R row, z the logits. The trial's learning rate is that of the CE
    pass (.004 in the paper, at batch 256); the other two are given as multiples of it: .005 / .004 and 3e-4 / .004.
    Weight decay is the CE pass's own alone, as in released code: the trial's does not enter.
    """

    taxonomy = Taxonomy(corrupts="logits", retains="task loss")
    learning_rates = {
        "adam": LearningRate(3e-4, 1e-5, 0.01, MEASURED),
        "sgd": LearningRate(4e-3, 1e-5, 0.1, f"{DEEP_UNLEARN}: .001 x batch / 64, at 256"),
    }

    version = 3

    epochs: int = integer(1, 10, default=8)
    temperature: float = log_uniform(0.1, 5.0, default=1.15)
    uniform_lr_factor: float = log_uniform(0.1, 10.0, default=1.25)
    contrast_lr_factor: float = log_uniform(0.01, 1.0, default=0.075)
    weight_decay: float = uniform(0.0, 0.1, default=0.01)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Only for one vector of logits an example."""
        if task.kind != "classification":
            return f"fcs contrasts one vector of logits an example; {task.name} is {task.kind}"
        return None

    def phases(self, ctx: Context) -> list[Phase]:
        """The uniform pass, then contrast and repair in every epoch."""
        flat = Optimizer("uniform", lr=ctx.learning_rate * self.uniform_lr_factor, weight_decay=0.0)
        contrast = Optimizer(
            "contrast",
            lr=ctx.learning_rate * self.contrast_lr_factor,
            weight_decay=0.0,
            schedule="cosine",
            floor=min(1e-6, ctx.learning_rate * self.contrast_lr_factor),
        )
        repair = Optimizer("repair", weight_decay=self.weight_decay)
        epoch = [
            Phase("contrast", "paired", self.contrast, driver="forget", optimizer=contrast),
            Phase("repair", "retain", self.repair, optimizer=repair),
        ]
        return [Phase("uniform", "forget", self.flatten, optimizer=flat), *epoch * self.epochs]

    def flatten(self, ctx: Context, forget: Batch) -> Tensor:
        """KL(uniform || f_U)."""
        student = ctx.log_probs(forget)
        return ctx.kl(forget, F.log_softmax(torch.zeros_like(student), dim=-1), student)

    def contrast(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """-mean log_softmax(z_f stopgrad(z_r)^T / T)."""
        with torch.no_grad():
            kept = ctx.outputs(retain).float()
        pairs = -F.log_softmax(ctx.outputs(forget).float() @ kept.T / self.temperature, dim=-1)
        return ctx.mean(pairs, each=len(retain))

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)
