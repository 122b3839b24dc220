"""MUNBa: forgetting and keeping as two players, who agree on the direction of Nash's bargain."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, integer, method
from mubench_ray.methods.gradient import gradients_of, with_gradient
from mubench_ray.tasks.base import Batch

#: Weight of the forget loss where no bargain is struck, as released.
WITHOUT_BARGAIN = 0.1


@method("munba", title="MUNBa", cites="Wu & Harandi 2024, arXiv 2411.15537")
class Munba(Method):
    """a_r grad CE(D_R) + a_f grad CE(D_F with random labels), where G a = 1 / a, G the Gram matrix of both gradients; the rest of D_R by CE alone.

    For two players a_i = 1 / (|g_i| sqrt(1 + cos)), cos the gradients' angle's: what the paper's closed form comes to, without its division by g_r . g_f. It
    always makes a step of length sqrt(2) lr; released code clips that to lr (``unlearning: {clip: 1.0}``). Opposite gradients strike no bargain: CE(D_R) +
    .1 CE(D_F), as released. As there, an epoch is as many paired steps as D_F has batches, then the rest of D_R, and the labels are any class, drawn
    anew (here every epoch). Released defaults: 10 epochs, SGD at .01, momentum .9.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, "no paper runs it so: the generic range of Adam (docs/add-a-method.md)"),
        "sgd": LearningRate(
            0.01, 1e-4, 0.1, "its released code, SGD at .01 (arXiv 2411.15537): two decades below and one above"
        ),
    }
    reads_weights = True

    epochs: int = integer(1, 10, default=10)

    def phases(self, ctx: Context) -> list[Phase]:
        """In every epoch the bargains, then what is left of D_R."""
        forget, retain = len(ctx.data.rows("forget")), len(ctx.data.rows("retain"))
        bargain = Phase("bargain", "paired", self.bargain, driver="forget")
        rest = Phase("keep", "retain", self.keep, epochs=max(0.0, 1 - forget / retain))
        return [bargain, rest] * self.epochs

    def bargain(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """A step in the direction that both agree on."""
        relabelled = ctx.relabel(forget, keep_true=True, redraw=True)
        losses = [ctx.loss(batch) for batch in (retain, relabelled)]
        ours, theirs = (gradients_of(ctx, loss) for loss in losses)
        a, b = weights(ours, theirs)
        value = a * losses[0] + b * losses[1]
        return with_gradient(ctx, value, {name: a * ours[name] + b * theirs[name] for name in ours})

    def keep(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)


def weights(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The solution of G a = 1 / a for two gradients, scalars; (1, WITHOUT_BARGAIN) where it has none: opposite gradients, or none at all."""

    def dot(one: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
        return torch.stack([(one[name] * other[name]).sum() for name in one]).sum()

    r, f = dot(ours, ours).sqrt(), dot(theirs, theirs).sqrt()
    cosine = dot(ours, theirs) / (r * f)
    struck = cosine > -1 + 1e-6  # also False where a gradient is zero
    share = torch.where(struck, 1 + cosine, 1.0).rsqrt()
    return torch.where(struck, share / r, 1.0), torch.where(struck, share / f, WITHOUT_BARGAIN)
