"""FT: fine-tuning on what is kept."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Optimizer, Phase, Taxonomy, choice, method, uniform
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method("ft", "fine_tune", "finetune", title="FT", cites="Warnecke et al. 2021, arXiv 2108.11577; as in Deep Unlearn")
class FineTune(Method):
    """CE on D_R, cosine schedule, which moves on at every step, or after every ``epoch``, as in Deep Unlearn's code."""

    taxonomy = Taxonomy(corrupts="none", retains="task loss", measured_by="none")
    learning_rates = {
        "adam": LearningRate(1e-3, 1e-5, 0.1, MEASURED),
        "sgd": LearningRate(0.1, 1e-5, 1.0, f"{DEEP_UNLEARN}, which its default ends: a decade beyond"),
    }
    version = 2

    epochs: float = uniform(1, 10, default=5)
    advance: str = choice("step", "epoch", default="step", searched=False, later=True)

    def phases(self, ctx: Context) -> list[Phase]:
        """Passes over D_R."""
        optimizer = Optimizer(schedule="cosine", per_epoch=self.advance == "epoch")
        return [Phase(self.name, "retain", self.loss, epochs=self.epochs, optimizer=optimizer)]

    def loss(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)
