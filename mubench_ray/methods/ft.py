"""FT: fine-tuning on what is kept."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Taxonomy, method, uniform
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method("ft", "fine_tune", "finetune", title="FT", cites="Warnecke et al. 2021, arXiv 2108.11577; as in Deep Unlearn")
class FineTune(Method):
    """CE on D_R, cosine schedule."""

    taxonomy = Taxonomy(corrupts="none", retains="task loss", measured_by="none")
    learning_rates = {
        "adam": LearningRate(1e-3, 1e-5, 0.1, MEASURED),
        "sgd": LearningRate(0.1, 1e-5, 1.0, f"{DEEP_UNLEARN}, which its default ends: a decade beyond"),
    }
    on = "retain"
    schedule = "cosine"
    version = 2

    epochs: float = uniform(1, 10, default=5)

    def loss(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)
