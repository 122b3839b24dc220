"""EU-k: exact unlearning of the last k stages."""

from __future__ import annotations

import torch
from torch import nn

from mubench_ray.methods.base import Context, Taxonomy, choice, method
from mubench_ray.methods.cf_k import CatastrophicForgetting
from mubench_ray.methods.layers import last_stages, norm_parameters, reinitialise


@method("eu_k", "euk", "eu-k", title="EU-k", cites="Goel et al. 2022, arXiv 2201.06640")
class ExactUnlearning(CatastrophicForgetting):
    """CF-k after the last ``k`` stages and the head, with their BatchNorm statistics, were drawn anew.

    It needs as many epochs as training did: with few it collapses, in released code too. There (``drawn="released"``) kernels come from other laws than the
    architecture's own, and the BatchNorm statistics are those of before.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss", parameters="last k stages")
    without_lora = "draws the last stages anew, which LoRA keeps as they are"

    drawn: str = choice("architecture", "released", default="architecture", searched=False, later=True)

    def begin(self, ctx: Context) -> None:
        """Draw the trained part anew, which the pull then goes to."""
        if self.drawn == "released":
            self.redraw(ctx)
        else:
            reinitialise(ctx, last_stages(ctx.network, self.k), "eu_k")
        super().begin(ctx)

    @torch.no_grad()
    def redraw(self, ctx: Context) -> None:
        """Kernels by Kaiming's uniform law over the fan out, the head by Xavier's, scales 1, offsets 0; statistics stay."""
        anew = last_stages(ctx.network, self.k)
        for name, parameter in ctx.network.named_parameters():
            if name not in anew:
                continue
            fresh = torch.zeros(parameter.shape)
            if parameter.dim() > 2:
                nn.init.kaiming_uniform_(fresh, 0, "fan_out", "relu", ctx.generator("eu_k", name))
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(fresh, generator=ctx.generator("eu_k", name))
            elif name in norm_parameters(ctx.network) and name.endswith("weight"):
                fresh.fill_(1.0)
            parameter.copy_(fresh)
