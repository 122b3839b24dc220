"""RandLabel: learn a wrong target for everything that is to be forgotten."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, Method, Taxonomy, method, uniform
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
    """Task loss on shuffled D_R u D_F; each D_F target is replaced, once, by a random other target."""

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
    on = "mixed"

    epochs: float = uniform(1, 10, default=5)

    def loss(self, ctx: Context, batch: Batch) -> Tensor:
        """CE with the D_F rows relabelled."""
        return ctx.loss(ctx.relabel(batch))
