"""NG+: descend on what is kept, ascend on what is forgotten."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, choice, method, share, uniform
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method("neggrad_plus", "ng+", "neggrad+", "ngplus", title="NG+", cites="Kurmanji et al. 2023, arXiv 2302.09880")
class NegGradPlus(Method):
    """alpha CE(D_R) - (1 - alpha) CE(D_F), the forget loader cycled.

    In eval mode (``mode``), as its authors and Deep Unlearn run it: BatchNorm keeps f_O's statistics. MU-Bench's code runs it in train mode.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="task loss")
    learning_rates = {
        "adam": LearningRate(1e-3, 1e-5, 0.01, MEASURED),
        "sgd": LearningRate(0.01, 1e-5, 0.1, DEEP_UNLEARN),
    }
    version = 2

    epochs: float = uniform(1, 10, default=10)
    alpha: float = share(0.0, 1.0, default=0.95)
    mode: Literal["eval", "train"] = choice("eval", "train", default="eval", searched=False)

    def phases(self, ctx: Context) -> list[Phase]:
        """Passes over D_R, D_F beside it."""
        return [Phase("neggrad_plus", "paired", self.loss, epochs=self.epochs, mode=self.mode)]

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """Alpha CE(D_R) - (1 - alpha) CE(D_F)."""
        return self.alpha * ctx.loss(retain) - (1 - self.alpha) * ctx.loss(forget)
