"""EU-k: exact unlearning of the last k stages."""

from __future__ import annotations

from mubench_ray.methods.base import Context, Taxonomy, method
from mubench_ray.methods.cf_k import CatastrophicForgetting
from mubench_ray.methods.layers import last_stages, reinitialise


@method("eu_k", "euk", "eu-k", title="EU-k", cites="Goel et al. 2022, arXiv 2201.06640")
class ExactUnlearning(CatastrophicForgetting):
    """CF-k after the last ``k`` stages and the head, with their BatchNorm statistics, were drawn anew.

    It needs as many epochs as training did: with few it collapses, in released code too.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss", parameters="last k stages")
    without_lora = "draws the last stages anew, which LoRA keeps as they are"

    def begin(self, ctx: Context) -> None:
        """Draw the trained part anew, which the pull then goes to."""
        reinitialise(ctx, last_stages(ctx.network, self.k), "eu_k")
        super().begin(ctx)
