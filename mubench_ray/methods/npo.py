"""NPO: negative preference optimisation, ascent that slows down where f_U has left f_O."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, log_uniform, method, uniform
from mubench_ray.tasks.base import Batch


@method("npo", title="NPO", cites="Zhang et al. 2024, arXiv 2404.05868")
class NegativePreference(Method):
    """-(2 / beta) mean log sigmoid(-beta log(f_U(y | x) / f_O(y | x))) on D_F, plus gamma CE on D_R (0: plain NPO; 1: the paper's NPO+RT).

    Its first step is NegGrad's, and so is every step for beta -> 0.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="task loss", measured_by="f_O")

    epochs: float = uniform(1, 10, default=10)
    beta: float = log_uniform(0.05, 1.0, default=0.1)
    gamma: float = uniform(0.0, 1.0, default=1.0)

    def phases(self, ctx: Context) -> list[Phase]:
        """Passes over D_F, paired with D_R if it counts."""
        if self.gamma == 0:
            return [Phase("npo", "forget", self.preference, epochs=self.epochs)]
        return [Phase("npo", "paired", self.loss, epochs=self.epochs, driver="forget")]

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """NPO + gamma CE(D_R)."""
        return self.preference(ctx, forget) + self.gamma * ctx.loss(retain)

    def preference(self, ctx: Context, forget: Batch) -> Tensor:
        """The NPO term; log f(y | x) is the task's loss with its sign turned."""
        with torch.no_grad():
            reference = ctx.task.losses(ctx.outputs(forget, ctx.original), forget)
        log_ratio = reference - ctx.losses(forget)
        return -2 / self.beta * F.logsigmoid(-self.beta * log_ratio).mean()
