"""SSD: selective synaptic dampening of the weights that matter more to D_F than to the whole."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, log_uniform, method
from mubench_ray.methods.importance import dampen
from mubench_ray.tasks.base import Batch


@method("ssd", "selective_synaptic_dampening", title="SSD", cites="Foster et al. 2024, arXiv 2308.07707")
class SelectiveSynapticDampening(Method):
    """Where F_forget > alpha F_all: theta *= min(dampening F_all / F_forget, 1); F = mean squared gradient of the loss, example by example.

    F_all >= (|F| / N) F_forget, so that alpha >= N / |F| can choose nothing: refused. The paper's alpha of 10 is beyond that from 10 % on, which is
    why the default is lower. Released code squares the gradients of whole batches.
    """

    taxonomy = Taxonomy(corrupts="model", parameters="sparse")
    without_lora = "shrinks the weights themselves, which LoRA keeps as they are"
    version = 2
    uses_lr = False
    without_superloss = "takes no step down a loss: it shrinks weights by their importance"

    alpha: float = log_uniform(0.5, 100.0, default=2.0)
    dampening: float = log_uniform(0.1, 5.0, default=1.0)

    def phases(self, ctx: Context) -> list[Phase]:
        """One pass for both importances, then the dampening."""
        forget, size = len(ctx.data.rows("forget")), len(ctx.data.rows("forget")) + len(ctx.data.rows("retain"))
        if self.alpha >= size / forget:
            raise MubenchError(
                f"ssd.alpha = {self.alpha:g} can choose no weight: F_forget / F_all is at most N / |D_F| = {size / forget:.3g}. Lower it."
            )
        return [
            Phase("importance", "mixed", self.summed, batch_size=1, mode="eval", update=self.square, after=self.dampen)
        ]

    def summed(self, ctx: Context, example: Batch) -> Tensor:
        """The loss of one example."""
        return ctx.losses(example).sum()

    def square(self, ctx: Context, example: Batch) -> None:
        """Add the squared gradient to the importance for all and, of a D_F row, to that for D_F."""
        for which in ("all", "forget") if bool(example.forget) else ("all",):
            ctx.state[f"{which} examples"] = ctx.state.get(f"{which} examples", 0) + 1
            total = ctx.state.setdefault(which, {})
            for name, gradient in ctx.gradients().items():
                total[name] = total.get(name, 0) + gradient.square()

    def dampen(self, ctx: Context) -> None:
        """Shrink what matters more to D_F; where the budget stopped short of its first example nothing is known to."""
        if "forget" not in ctx.state:
            return
        everything, forgotten = (
            {name: total / ctx.state[f"{which} examples"] for name, total in ctx.state.pop(which).items()}
            for which in ("all", "forget")
        )
        dampen(ctx, forgotten, everything, self.alpha, self.dampening)
