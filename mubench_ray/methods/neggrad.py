"""NegGrad, also GA: gradient ascent on the forget set."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Taxonomy, method, uniform
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MU_BENCH
from mubench_ray.tasks.base import Batch


@method(
    "neggrad",
    "ga",
    "gradient_ascent",
    title="NegGrad",
    cites="Golatkar et al. 2020, arXiv 1911.04933 (GA in Deep Unlearn)",
)
class NegGrad(Method):
    """-CE on D_F, in train mode: the BatchNorm statistics follow D_F, as in the papers' code."""

    taxonomy = Taxonomy(corrupts="gradient")
    learning_rates = {
        "adam": LearningRate(1e-5, 1e-6, 1e-3, f"{MU_BENCH}; it destroys from 1e-3 on, and is harmless at 1e-5"),
        "sgd": LearningRate(0.01, 1e-5, 0.1, DEEP_UNLEARN),
    }
    on = "forget"

    epochs: float = uniform(1, 10, default=10)

    def loss(self, ctx: Context, forget: Batch) -> Tensor:
        """-CE(D_F)."""
        return -ctx.loss(forget)
