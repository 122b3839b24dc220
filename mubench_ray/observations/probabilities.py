"""The probabilities of all classes on D_F, D_Test and as much of D_R, for an attack that reads them all at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.observations.generated import sampled
from mubench_ray.observations.predictions import log_probs
from mubench_ray.tasks.base import Task
from mubench_ray.training.data import Rows


@observation(
    "probabilities",
    title="All class probabilities on D_F, D_Test and as many of D_R",
    cites="Fan et al. 2024, arXiv 2310.12508",
)
class Probabilities(Observation):
    """``<set>_probabilities`` (N, K) of D_F, of D_Test and of as many examples of D_R as D_Test has, drawn by the trial's seed."""

    gives = ("retain_probabilities", "test_probabilities", "forget_probabilities")
    reads = ("retain", "test", "forget")
    costs = "a pass over D_F, D_Test and as much of D_R, K numbers an example in the folder, and minutes of a support vector machine where D_Test is large"

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Of classification alone."""
        return None if task.kind == "classification" else f"{task.name} is {task.kind}: it has no class probabilities"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Three sets."""
        retain, test, forget = (seen.sets[name] for name in self.reads)
        drawn = Rows(retain.examples, sampled(retain, len(test), "probabilities", seen.trial.seed))
        named = zip(self.gives, (drawn, test, forget), strict=True)
        return {name: np.exp(log_probs(seen.ctx, seen.ctx.network, rows)) for name, rows in named}
