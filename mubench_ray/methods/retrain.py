"""Retrain: trained from scratch on D_R only, the control that no attack may tell apart."""

from __future__ import annotations

from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, method


@method("retrain", title="Retrain", cites="control: f_R, trained from scratch on D_R")
class Retrain(Method):
    """f_U = f_R; its row carries the cost of training it, the cap of every other trial."""

    taxonomy = Taxonomy(corrupts="model", retains="task loss")
    start = "retrain"
    uses_lr = False

    def phases(self, ctx: Context) -> list[Phase]:
        """Nothing is left to do."""
        return []
