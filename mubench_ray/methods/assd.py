"""ASSD: selective synaptic dampening that chooses how many weights to dampen by the size of the forget set."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, log_uniform, method
from mubench_ray.methods.importance import dampen, importance_phase, taken, whole
from mubench_ray.tasks.base import Batch


@method("assd", "adaptive_ssd", title="ASSD", cites="Schoepf et al. 2024, arXiv 2402.10098")
class AdaptiveDampening(Method):
    """SSD with alpha = the p-th percentile of F_forget / F_all over all weights, p = 100 - ln(1 + 100 |D_F| / N); F as for SSD.

    There is nothing to tune: ``dampening`` is SSD's lambda, at its paper's 1 (the released function defaults to .1, its runs set a value that is not
    released). Released code has D_R in the place of D though it says D, and the squared gradients of whole batches.
    """

    taxonomy = Taxonomy(corrupts="model", parameters="sparse")
    without_lora = "shrinks the weights themselves, which LoRA keeps as they are"
    uses_lr = False
    without_superloss = "takes no step down a loss: it shrinks weights by their importance"

    dampening: float = log_uniform(0.1, 5.0, default=1.0)

    def phases(self, ctx: Context) -> list[Phase]:
        """One pass for the importances, then the dampening."""
        return [importance_phase(self.summed, torch.square, self.dampen)]

    def summed(self, ctx: Context, example: Batch) -> Tensor:
        """The loss of one example."""
        return ctx.losses(example).sum()

    def dampen(self, ctx: Context) -> None:
        """Shrink the weights beyond the percentile; where the budget stopped short of D_F's or D_R's first example nothing is known of any."""
        if (found := taken(ctx)) is None:
            return
        forget, retain = found
        everything = whole(ctx, forget, retain)
        ratios = torch.cat([(forget[name] / everything[name]).flatten() for name in forget])
        share = 100 * len(ctx.data.rows("forget")) / sum(len(ctx.data.rows(name)) for name in ("forget", "retain"))
        known = ratios[ratios.isfinite()].cpu().numpy()
        alpha = float(np.percentile(known, 100 - math.log1p(share)))
        dampen(ctx, forget, everything, alpha, self.dampening)
