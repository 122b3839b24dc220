"""IU: influence unlearning, one Newton step away from D_F."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, integer, method, uniform
from mubench_ray.tasks.base import Batch

#: Largest memory that the kept gradients may take.
MOST_BYTES = 64 * 2**30


@method(
    "iu",
    "influence_unlearning",
    title="IU",
    cites="Izzo et al. 2021, arXiv 2002.10077; Jia et al. 2023, arXiv 2304.04934",
)
class InfluenceUnlearning(Method):
    """theta += alpha H^-1 v with v = (sum_F grad) / N - |F| / (N |R|) sum_R grad and H = I + mean of g g^T over ``samples`` examples of D_R.

    H is WoodFisher's (Singh & Alistarh 2020), its inverse taken exactly, by Woodbury's identity, from the kept gradients: samples x parameters numbers.
    Released code keeps a single vector in their place, which stays parallel to the first sample's gradient: its H^-1 v is v less a multiple of that.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="gradient")
    uses_lr = False
    without_superloss = "takes no step down a loss, but one by the influence of examples"

    alpha: float = uniform(0.0, 20.0, default=1.0)
    samples: int = integer(1, 1000, default=1000)

    def phases(self, ctx: Context) -> list[Phase]:
        """The two sums of gradients, the samples' gradients, the step."""
        retain = len(ctx.data.rows("retain"))
        samples = min(self.samples, retain)
        wanted = 4 * samples * sum(p.numel() for p in ctx.network.parameters() if p.requires_grad)
        if wanted > MOST_BYTES:
            raise MubenchError(
                f"iu.samples = {samples} gradients of this network take {wanted / 2**30:.0f} GiB, more than {MOST_BYTES // 2**30}; lower it."
            )
        return [
            Phase("forget gradient", "forget", self.summed, mode="eval", update=self.add_forget),
            Phase("retain gradient", "retain", self.summed, mode="eval", update=self.add_retain),
            Phase(
                "samples",
                "retain",
                self.summed,
                epochs=samples / retain,
                batch_size=1,
                mode="eval",
                update=self.keep,
                after=self.step,
            ),
        ]

    def summed(self, ctx: Context, batch: Batch) -> Tensor:
        """CE summed, so that batches of any size add up."""
        return ctx.losses(batch).sum()

    def add_forget(self, ctx: Context, forget: Batch) -> None:
        """Sum over D_F."""
        ctx.state["forget"] = ctx.state.get("forget", 0) + self.gradient(ctx)

    def add_retain(self, ctx: Context, retain: Batch) -> None:
        """Sum over D_R."""
        ctx.state["retain"] = ctx.state.get("retain", 0) + self.gradient(ctx)

    def keep(self, ctx: Context, retain: Batch) -> None:
        """Keep one sample's gradient."""
        ctx.state.setdefault("samples", []).append(self.gradient(ctx))

    def gradient(self, ctx: Context) -> Tensor:
        """The gradient of everything that is trained as one vector."""
        trained = [name for name, p in ctx.network.named_parameters() if p.requires_grad]
        gradients = ctx.gradients()
        return torch.cat([gradients[name].flatten() for name in trained])

    @torch.no_grad()
    def step(self, ctx: Context) -> None:
        """Theta += alpha H^-1 v."""
        forget, retain = len(ctx.data.rows("forget")), len(ctx.data.rows("retain"))
        size = forget + retain
        v = ctx.state.pop("forget") / size - forget / (size * retain) * ctx.state.pop("retain")
        G = torch.stack(ctx.state.pop("samples"))
        small = (G @ G.T).double() + len(G) * torch.eye(len(G), dtype=torch.float64, device=G.device)
        newton = v - G.T @ torch.linalg.solve(small, (G @ v).double()).to(v)
        trained = [p for p in ctx.network.parameters() if p.requires_grad]
        for parameter, change in zip(trained, newton.split([p.numel() for p in trained])):
            parameter.add_(self.alpha * change.view_as(parameter))
