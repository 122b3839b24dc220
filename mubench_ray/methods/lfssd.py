"""LFSSD: selective synaptic dampening by how much each weight moves the output, without labels or a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, log_uniform, method
from mubench_ray.methods.importance import dampen, importance_phase, taken, whole
from mubench_ray.tasks.base import Batch, Classification, Task


@method("lfssd", "loss_free_ssd", title="LFSSD", cites="Foster et al. 2024, arXiv 2402.19308")
class LossFreeDampening(Method):
    """SSD with the importance of memory aware synapses: Omega = mean abs(grad |f(x)|^2) over D_F and over D, example by example, f the logits.

    Where Omega_forget > alpha Omega_all: theta *= min(dampening Omega_all / Omega_forget, 1). As for SSD an alpha of N / |D_F| or more can choose nothing
    and is refused; its authors' 10 is beyond that from 10 % on. The default is lower than SSD's, too: means of sizes lie closer together than means of
    squares, and 2 chooses nothing of digits. Released code takes the gradient of whole batches.
    """

    taxonomy = Taxonomy(corrupts="model", parameters="sparse")
    without_lora = "shrinks the weights themselves, which LoRA keeps as they are"
    uses_lr = False
    without_superloss = "takes no step down a loss: it shrinks weights by their importance"

    alpha: float = log_uniform(0.5, 100.0, default=1.1)
    dampening: float = log_uniform(0.1, 5.0, default=1.0)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs logits."""
        return (
            None
            if issubclass(task, Classification)
            else f"it measures logits of classes, and {task.name} is {task.kind}"
        )

    def phases(self, ctx: Context) -> list[Phase]:
        """One pass for the importances, then the dampening."""
        most = 1 + len(ctx.data.rows("retain")) / len(ctx.data.rows("forget"))
        if self.alpha >= most:
            raise MubenchError(
                f"lfssd.alpha = {self.alpha:g} can choose no weight: Omega_forget / Omega_all is at most N / |D_F| = {most:.3g}. Lower it."
            )
        return [importance_phase(self.norm, torch.abs, self.dampen)]

    def norm(self, ctx: Context, example: Batch) -> Tensor:
        """Squared length of one example's logits."""
        return ctx.outputs(example).float().square().sum()

    def dampen(self, ctx: Context) -> None:
        """Shrink what matters more to D_F; where the budget stopped short of D_F's or D_R's first example nothing is known to."""
        if (found := taken(ctx)) is None:
            return
        forget, retain = found
        dampen(ctx, forget, whole(ctx, forget, retain), self.alpha, self.dampening)
