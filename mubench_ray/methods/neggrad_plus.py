"""NG+: descend on what is kept, ascend on what is forgotten."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, Method, Taxonomy, method, uniform
from mubench_ray.tasks.base import Batch


@method(
    "neggrad_plus",
    "ng+",
    "neggrad+",
    "ngplus",
    "grad_diff",
    title="NG+",
    cites="Kurmanji et al. 2023, arXiv 2302.09880",
)
class NegGradPlus(Method):
    """alpha CE(D_R) - (1 - alpha) CE(D_F), the forget loader cycled."""

    taxonomy = Taxonomy(corrupts="gradient", retains="task loss")
    on = "paired"

    epochs: float = uniform(1, 10, default=10)
    alpha: float = uniform(0.0, 1.0, default=0.95)

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """Alpha CE(D_R) - (1 - alpha) CE(D_F)."""
        return self.alpha * ctx.loss(retain) - (1 - self.alpha) * ctx.loss(forget)
