"""CF-k: catastrophic forgetting of the last k stages."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, choice, integer, method, uniform
from mubench_ray.methods.layers import last_stages, stages
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method("cf_k", "cfk", "cf-k", title="CF-k", cites="Goel et al. 2022, arXiv 2201.06640")
class CatastrophicForgetting(Method):
    """CE on D_R trains the last ``k`` stages and the head; everything before is frozen, its BatchNorm statistics included.

    Released code (Deep Unlearn) trains in eval mode (``mode``), without momentum and with an L2 pull to the start, ``pull`` / 2 |theta - theta_0|^2; none of
    that is in the papers, nor the default here.
    """

    taxonomy = Taxonomy(retains="task loss", parameters="last k stages")
    learning_rates = {
        "adam": LearningRate(1e-3, 1e-5, 0.1, MEASURED),
        "sgd": LearningRate(0.01, 1e-5, 0.1, DEEP_UNLEARN),
    }

    epochs: float = uniform(1, 10, default=10)
    k: int = integer(1, 3, default=1)
    pull: float = uniform(0.0, 1.0, default=0.0, searched=False, later=True)
    mode: Literal["train", "eval"] = choice("train", "eval", default="train", searched=False, later=True)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs stages."""
        return None if stages(network) else f"{cls.name} trains the last stages; the network is no sequence of stages"

    def phases(self, ctx: Context) -> list[Phase]:
        """Training of the end of the network."""
        before = self.remember if self.pull else None
        return [
            Phase(
                self.name,
                "retain",
                self.loss,
                epochs=self.epochs,
                parameters=self.trained,
                mode=self.mode,
                before=before,
            )
        ]

    def remember(self, ctx: Context) -> None:
        """Where the pull goes to."""
        ctx.state["start"] = {
            name: p.detach().clone() for name, p in ctx.network.named_parameters() if name in self.trained(ctx)
        }

    def trained(self, ctx: Context) -> set[str]:
        """Parameters of the last k stages and of what follows them."""
        return last_stages(ctx.network, self.k) & {name for name, _ in ctx.network.named_parameters()}

    def loss(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R), and the pull."""
        if not self.pull:
            return ctx.loss(retain)
        trained = dict(ctx.network.named_parameters())
        far = sum((trained[name] - start).square().sum() for name, start in ctx.state["start"].items())
        return ctx.loss(retain) + self.pull / 2 * far
