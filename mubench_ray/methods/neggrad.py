"""NegGrad, also GA: gradient ascent on the forget set."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, Method, Taxonomy, method, uniform
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
    on = "forget"

    epochs: float = uniform(1, 10, default=10)

    def loss(self, ctx: Context, forget: Batch) -> Tensor:
        """-CE(D_F)."""
        return -ctx.loss(forget)
