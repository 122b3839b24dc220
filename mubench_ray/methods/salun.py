"""SalUn: random labels, but only the weights that matter to the forget set may move."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, choice, method, share, uniform
from mubench_ray.methods.learning_rates import MU_BENCH
from mubench_ray.methods.rand_label import in_turns
from mubench_ray.tasks.base import Batch


@method("salun", title="SalUn", cites="Fan et al. 2024, arXiv 2310.12508")
class SalUn(Method):
    """Mask = the share tau of weights with the largest |sum over D_F of grad CE|; then random labels on D_F, true ones on D_R, under the mask. A tau of 0
    is refused: nothing would train.

    ``form="passes"``: every epoch a pass over D_F, then one over D_R, as its authors run it on CIFAR-10 and SVHN. ``mixed``: one shuffled pass over both,
    as they run it on CIFAR-100 and Tiny ImageNet, and MU-Bench and Deep Unlearn everywhere.

    Every batch counts towards the mask (released code loses the first). The labels are redrawn every epoch and never the true one.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O", parameters="sparse")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, MU_BENCH),
        "sgd": LearningRate(
            0.013,
            1e-5,
            0.1,
            "its authors' README for CIFAR-10 (arXiv 2310.12508); the range that Deep Unlearn searches",
        ),
    }
    version = 2

    epochs: float = uniform(1, 10, default=10)
    tau: float = share(0.1, 0.9, default=0.5, positive=True)
    form: str = choice("passes", "mixed", default="passes", searched=False)

    def phases(self, ctx: Context) -> list[Phase]:
        """Saliency, then relabelled training."""
        mixed = [Phase("relabel", "mixed", self.relabelled, epochs=self.epochs)]
        return [
            Phase(
                "saliency", "forget", self.summed, mode="eval", update=self.accumulate, after=self.make_mask, whole=True
            ),
            *(mixed if self.form == "mixed" else in_turns(self.epochs, self.relabelled)),
        ]

    def summed(self, ctx: Context, forget: Batch) -> Tensor:
        """CE summed, so that batches of any size add up to the gradient over D_F."""
        return ctx.losses(forget).sum()

    def accumulate(self, ctx: Context, forget: Batch) -> None:
        """Add up the gradients of all batches, of what is trained (with LoRA: of the adapters)."""
        total = ctx.state.setdefault("gradient", {})
        trained = {name for name, p in ctx.network.named_parameters() if p.requires_grad}
        for name, gradient in ctx.gradients().items():
            if name in trained:
                total[name] = total.get(name, 0) + gradient

    def make_mask(self, ctx: Context) -> None:
        """Keep the share tau of all weights with the largest |gradient|."""
        gradient = ctx.state.pop("gradient")
        size = torch.cat([g.abs().flatten() for g in gradient.values()])
        kept = torch.zeros_like(size, dtype=torch.bool)
        kept[size.topk(max(1, round(self.tau * len(size)))).indices] = True
        pieces = kept.split([g.numel() for g in gradient.values()])
        ctx.mask = {name: piece.view_as(g) for (name, g), piece in zip(gradient.items(), pieces)}

    def relabelled(self, ctx: Context, batch: Batch) -> Tensor:
        """CE with the D_F rows relabelled."""
        return ctx.loss(ctx.relabel(batch, redraw=True))
