"""NPO: negative preference optimisation, ascent that slows down where f_U has left f_O."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Phase,
    Taxonomy,
    choice,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.methods.learning_rates import COMMON
from mubench_ray.tasks.base import Batch


@method("npo", title="NPO", cites="Zhang et al. 2024, arXiv 2404.05868")
class NegativePreference(Method):
    """-(2 / beta) mean log sigmoid(-beta log(f_U(y | x) / f_O(y | x))) on D_F, plus gamma CE on D_R (0: plain NPO; 1: the paper's NPO+RT).

    y is the whole target: where it is a sequence its log-probability is the sum over its tokens (``reduction="sum"``, as in the authors' code). With their
    ``mean``, as in MU-Bench's code, beta .1 hardly bends the sigmoid, and what is left is gradient ascent. Its first step goes NegGrad's way, and so does
    every step for beta -> 0. CE on D_R is the task's loss, a mean over tokens in either case.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(
            1e-5,
            1e-6,
            1e-3,
            "its authors' TOFU runs, AdamW at 1e-5 (arXiv 2404.05868), best on FashionMNIST too (docs/fidelity.md)",
        ),
        "sgd": LearningRate(0.01, 1e-5, 0.1, COMMON),
    }
    sequence_version = superloss_version = 2

    epochs: float = uniform(1, 10, default=10)
    beta: float = log_uniform(0.05, 1.0, default=0.1)
    gamma: float = uniform(0.0, 1.0, default=1.0)
    reduction: str = choice("sum", "mean", default="sum", searched=False, later=True)

    def phases(self, ctx: Context) -> list[Phase]:
        """Passes over D_F, paired with D_R if it counts."""
        if self.gamma == 0:
            return [Phase("npo", "forget", self.preference, epochs=self.epochs)]
        return [Phase("npo", "paired", self.loss, epochs=self.epochs, driver="forget")]

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """NPO + gamma CE(D_R)."""
        return self.preference(ctx, forget) + self.gamma * ctx.loss(retain)

    def preference(self, ctx: Context, forget: Batch) -> Tensor:
        """The NPO term."""
        with torch.no_grad():
            reference = ctx.log_likelihoods(forget, ctx.original)
        log_ratio = ctx.log_likelihoods(forget) - reference
        if self.reduction == "mean":
            log_ratio = log_ratio / ctx.task.tokens(forget)
        return ctx.mean(-F.logsigmoid(-self.beta * log_ratio), factor=2 / self.beta)
