"""Transfer: what unlearning does to the score on shifted test sets (MU-Bench), seen from the original of the trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.observations.evaluation_sets import flatten
from mubench_ray.tasks.base import Splits, Task
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import evaluate

#: What is kept of a set, and from which of its columns it is the mean.
KEPT = {"accuracy": "correct", "loss": "loss"}


@observation(
    "shifted_sets",
    title="Score and loss on shifted test sets, of f_U and of the original",
    cites="MU-Bench, arXiv 2406.14796",
)
class ShiftedSets(Observation):
    """``shifted_<set>_<column>`` and ``original_shifted_<set>_<column>``, (N,); ``shifted_correct`` and ``original_shifted_correct`` of all sets together."""

    asked = False
    gives = ("shifted_*", "original_shifted_*")
    reads = ("shifted test sets",)
    needs = ("original",)
    costs = "one pass over the shifted sets"

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Where a task has no shifted sets."""
        return None if task.shifted else f"{task.name} has no shifted test sets"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """f_U on every set; the original from what its artifact holds, or looked at now where that was made without these sets."""
        rows = shifted_rows(seen.splits)
        if not rows:  # their data is not at hand
            return {}
        ctx, known = seen.ctx, seen.artifact("original").observed
        ours = flatten({name: evaluate(ctx.network, ctx.data, each) for name, each in rows.items()})
        if any(len(known.get(f"{name}_correct", ())) != len(each) for name, each in rows.items()):
            network = seen.network("original")
            known = flatten({name: evaluate(network, ctx.data, each) for name, each in rows.items()})
        found = ours | {f"original_{name}": known[name] for name in ours if name in known}
        for who in ("", "original_"):
            found[f"{who}shifted_correct"] = np.concatenate([found[f"{who}{name}_correct"] for name in rows])
        return found


def shifted_rows(splits: Splits) -> dict[str, Rows]:
    """The shifted test sets as ``shifted_<set>``."""
    return {f"shifted_{name}": Rows.all_of(examples) for name, examples in splits.shifted.items()}


def shifted_means(sets: tuple[str, ...], arrays: Mapping[str, Any]) -> dict[str, float]:
    """Of every set that was looked at the mean score and loss of f_U and of the original, as ``transfer_<set>_accuracy`` and
    ``transfer_<set>_original_accuracy``."""
    return {
        f"transfer_{name}_{'original_' if who else ''}{kept}": float(arrays[f"{who}shifted_{name}_{column}"].mean())
        for name in sets
        for kept, column in KEPT.items()
        for who in ("", "original_")
        if f"{who}shifted_{name}_{column}" in arrays
    }
