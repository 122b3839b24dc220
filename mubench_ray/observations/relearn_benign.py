"""Benign relearning: copies of f_U and of its retrain are fine-tuned on D_R alone; does D_F come back?"""

from __future__ import annotations

from typing import Any

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.observations.fine_tuning import FineTuning, watched


@observation(
    "relearn_benign",
    "relearning",
    title="Fine-tune on D_R and watch D_F, beside the retrain",
    cites="Golatkar et al. 2020, arXiv 1911.04933",
)
class RelearnBenign(Observation):
    """``relearn_steps`` (P,) and the accuracy on D_F (P,) of f_U and of f_R at them, step 0 first, under the same fine-tuning."""

    gives = ("relearn_steps", "relearn_forget_accuracy", "retrain_relearn_forget_accuracy")
    reads = ("retain", "forget")
    needs = ("retrain",)
    costs = "steps of training and a pass over D_F every few of them, twice"
    Options = FineTuning
    options: FineTuning

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Both networks under the same steps."""
        watch = {"accuracy": seen.sets["forget"]}
        ours, retrains = (
            watched(seen, network, seen.sets["retain"], watch, self.options, "relearn")["accuracy"]
            for network in (seen.copy(), seen.network("retrain"))
        )
        return {
            "relearn_steps": self.options.looked_at,
            "relearn_forget_accuracy": ours,
            "retrain_relearn_forget_accuracy": retrains,
        }
