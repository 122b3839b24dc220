"""EU-k: exact unlearning of the last k stages."""

from __future__ import annotations

from dataclasses import replace

from mubench_ray.methods.base import Context, LearningRate, Phase, Taxonomy, method
from mubench_ray.methods.cf_k import CatastrophicForgetting
from mubench_ray.methods.layers import last_stages, reinitialise
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED


@method("eu_k", "euk", "eu-k", title="EU-k", cites="Goel et al. 2022, arXiv 2201.06640")
class ExactUnlearning(CatastrophicForgetting):
    """CF-k after the last ``k`` stages and the head, with their BatchNorm statistics, were drawn anew.

    It needs as many epochs as training did: with few it collapses, in released code too.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss", parameters="last k stages")
    learning_rates = {
        "adam": LearningRate(1e-3, 1e-5, 0.1, MEASURED),
        "sgd": LearningRate(0.01, 1e-5, 0.1, DEEP_UNLEARN),
    }
    without_lora = "draws the last stages anew, which LoRA keeps as they are"

    def phases(self, ctx: Context) -> list[Phase]:
        """CF-k's phase, the end of the network drawn anew before it."""
        return [replace(phase, before=self.reset) for phase in super().phases(ctx)]

    def reset(self, ctx: Context) -> None:
        """Draw the trained part anew, which the pull then goes to."""
        reinitialise(ctx, last_stages(ctx.network, self.k), "eu_k")
        if self.pull:
            self.remember(ctx)
