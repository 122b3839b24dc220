"""The knowledge gap: f_U beside a model of D_F alone, and f_O beside one of D_V, which it never saw."""

from __future__ import annotations

from typing import Any

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.observations.predictions import log_probs
from mubench_ray.tasks.base import Task
from mubench_ray.training.data import Rows


@observation(
    "knowledge_gap",
    title="Predictions beside models of D_F alone and of D_V alone",
    cites="Wang et al. 2023, arXiv 2305.06535",
)
class KnowledgeGap(Observation):
    """Log-probabilities (N, K) of the model of D_F alone on D_F, and on D_V of f_O and of the model of D_V alone."""

    gives = ("forget_only_forget_log_probs", "extra_only_extra_log_probs", "original_extra_log_probs")
    reads = ("forget", "validation")
    needs = ("forget-only", "validation-only", "original")
    costs = "two trainings that the trials of a forget set share, and three passes"

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Of classification alone."""
        classes = task.kind == "classification"
        return None if classes else f"it compares class probabilities, and {task.name} is {task.kind}"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Three networks, each on the set that it is compared on."""
        forget, extra = seen.sets["forget"], Rows.all_of(seen.splits.validation)
        return {
            "forget_only_forget_log_probs": log_probs(seen.ctx, seen.network("forget-only"), forget),
            "extra_only_extra_log_probs": log_probs(seen.ctx, seen.network("validation-only"), extra),
            "original_extra_log_probs": log_probs(seen.ctx, seen.network("original"), extra),
        }
