"""CF-k: catastrophic forgetting of the last k stages."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    at_epochs,
    choice,
    integer,
    method,
    numbered,
    uniform,
)
from mubench_ray.methods.layers import last_stages, stages
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch

#: What is left of the learning rate after each of the epochs of ``decay_after``.
DECAY = 0.1


@method("cf_k", "cfk", "cf-k", title="CF-k", cites="Goel et al. 2022, arXiv 2201.06640")
class CatastrophicForgetting(Method):
    """CE on D_R trains the last ``k`` stages and the head; everything before is frozen, its BatchNorm statistics included.

    Released code (Deep Unlearn) trains in eval mode (``mode``), without momentum, with an L2 pull to the start, ``pull`` / 2 |theta - theta_0|^2, and at a
    tenth of the learning rate after each of ``decay_after`` (6 and 9 of its 10 epochs); none of that is in the papers, nor the default here.
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
    decay_after: str = at_epochs(default="", later=True)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs stages."""
        return None if stages(network) else f"{cls.name} trains the last stages; the network is no sequence of stages"

    def phases(self, ctx: Context) -> list[Phase]:
        """Training of the end of the network, a stretch at every learning rate."""
        ends = [*(at for at in numbered(self.decay_after, self.epochs) if 0 < at < self.epochs), self.epochs]
        return [
            Phase(
                self.name,
                "retain",
                self.loss,
                epochs=end - start,
                optimizer=Optimizer(lr=ctx.learning_rate * DECAY**place if place else None),
                parameters=self.trained,
                mode=self.mode,
                before=self.begin if place == 0 else None,
            )
            for place, (start, end) in enumerate(zip([0, *ends], ends))
            if end > start
        ]

    def begin(self, ctx: Context) -> None:
        """Where the pull goes to."""
        if self.pull:
            self.remember(ctx)

    def remember(self, ctx: Context) -> None:
        """Keep the parameters as they are now."""
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
