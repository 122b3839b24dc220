"""RandLabel: learn a wrong target for everything that is to be forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, choice, method, uniform
from mubench_ray.methods.learning_rates import MU_BENCH
from mubench_ray.tasks.base import Batch


@method(
    "rand_label",
    "randlabel",
    "random_label",
    "rl",
    title="RandLabel",
    cites="Golatkar et al. 2020, arXiv 1911.04933; as in MU-Bench",
)
class RandLabel(Method):
    """Task loss on shuffled D_R u D_F; each D_F target is replaced, once, by a random other target.

    ``form="passes"``: every epoch a pass over D_F, then one over D_R, as the code beside SalUn runs its RL on CIFAR-10. ``mixed`` is MU-Bench's.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, MU_BENCH),
        "sgd": LearningRate(
            0.01,
            1e-5,
            0.1,
            "the code beside SalUn (arXiv 2310.12508), whose default it is; the range that Deep Unlearn searches",
        ),
    }
    on = "mixed"
    sequence_version = 2

    epochs: float = uniform(1, 10, default=5)
    form: str = choice("mixed", "passes", default="mixed", searched=False, later=True)

    def phases(self, ctx: Context) -> list[Phase]:
        """One stretch, or passes in turns."""
        return super().phases(ctx) if self.form == "mixed" else in_turns(self.epochs, self.loss)

    def loss(self, ctx: Context, batch: Batch) -> Tensor:
        """CE with the D_F rows relabelled."""
        return ctx.loss(ctx.relabel(batch))


def in_turns(epochs: float, loss: Callable[..., Tensor]) -> list[Phase]:
    """Every epoch a pass over D_F, then one over D_R; of the last, where it is a fraction, that share of both."""
    parts = [min(1.0, epochs - epoch) for epoch in range(math.ceil(epochs))]
    return [Phase(f"relabel {name}", name, loss, epochs=part) for part in parts for name in ("forget", "retain")]
