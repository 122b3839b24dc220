"""FT: fine-tuning on what is kept."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, Method, Taxonomy, method, uniform
from mubench_ray.tasks.base import Batch


@method("ft", "fine_tune", "finetune", title="FT", cites="Warnecke et al. 2021, arXiv 2108.11577; as in Deep Unlearn")
class FineTune(Method):
    """CE on D_R, cosine schedule."""

    taxonomy = Taxonomy(corrupts="none", retains="task loss", measured_by="none")
    on = "retain"
    schedule = "cosine"
    version = 2

    epochs: float = uniform(1, 10, default=5)

    def loss(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)
