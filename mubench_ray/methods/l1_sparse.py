"""l1-sparse: fine-tuning on what is kept, pulled towards sparse weights."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, log_uniform, method, uniform
from mubench_ray.methods.learning_rates import MEASURED
from mubench_ray.tasks.base import Batch


@method("l1_sparse", "l1sparse", "l1-sparse", title="l1-sparse", cites="Jia et al. 2023, arXiv 2304.04934")
class L1Sparse(Method):
    """CE on D_R + alpha (1 - epoch / epochs) |theta|_1: the penalty falls linearly, the best of the paper's schedules, over the epochs that the
    budget leaves."""

    taxonomy = Taxonomy(corrupts="model", retains="task loss")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, MEASURED),
        "sgd": LearningRate(
            0.01,
            1e-5,
            0.1,
            "its released code, whose default it is (arXiv 2304.04934); the range that Deep Unlearn searches",
        ),
    }
    reads_weights = True
    version = 2

    epochs: float = uniform(1, 10, default=10)
    alpha: float = log_uniform(1e-5, 1e-1, default=5e-4)

    def phases(self, ctx: Context) -> list[Phase]:
        """One stretch of training."""
        return [Phase("l1_sparse", "retain", self.loss, epochs=self.epochs)]

    def loss(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R) and the penalty of this epoch."""
        penalty = sum(p.abs().sum() for p in ctx.network.parameters() if p.requires_grad)
        return ctx.loss(retain) + self.alpha * (1 - ctx.epoch[1] / (self.epochs * ctx.share)) * penalty
