"""SRL: successive random labels on what is forgotten, the task loss on what is kept."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Taxonomy, method, uniform
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method("srl", "successive_random_labels", title="SRL", cites="Cadet et al. 2024 (Deep Unlearn), arXiv 2410.01276")
class SuccessiveRandomLabels(Method):
    """CE on shuffled D_R u D_F; the labels of D_F are uniform over all classes and drawn anew every epoch.

    Released code draws them from one fixed random state whatever the seed; here they follow the trial's seed.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, MEASURED),
        "sgd": LearningRate(0.1, 1e-5, 1.0, f"{DEEP_UNLEARN}, which its default ends: a decade beyond"),
    }
    on = "mixed"
    sequence_version = 2

    epochs: float = uniform(1, 10, default=5)

    def loss(self, ctx: Context, batch: Batch) -> Tensor:
        """CE with the D_F rows relabelled."""
        return ctx.loss(ctx.relabel(batch, keep_true=True, redraw=True))
