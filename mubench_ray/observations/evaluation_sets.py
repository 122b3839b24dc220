"""The five evaluation sets: loss, correctness, confidence and entropy of every example, of f_U and of its retrain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mubench_ray.forget import ForgetSplit
from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.tasks.base import Splits
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import Observed, evaluate

#: D_F, D_R, D_V, D_Test and, of a shadow model, the half of the training set that it never saw.
SETS = ("forget", "retain", "validation", "test", "unseen")


@observation("evaluation_sets", title="Loss, correctness, confidence and entropy on D_F, D_R, D_V, D_Test")
class EvaluationSets(Observation):
    """``<set>_<column>``, (N,), of f_U, and ``retrain_<set>_<column>``, which the retrain's artifact holds."""

    asked = False
    gives = tuple(f"{who}{name}_*" for who in ("", "retrain_") for name in SETS)
    reads = SETS
    costs = "one pass over all sets"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Every example of every set, once."""
        observed = flatten({name: evaluate(seen.ctx.network, seen.ctx.data, rows) for name, rows in seen.sets.items()})
        if seen.retrain is not None:
            observed |= {f"retrain_{name}": values for name, values in seen.retrain.observed.items()}
        return observed


def held_out(splits: Splits) -> dict[str, Rows]:
    """D_V and D_Test."""
    return {"validation": Rows.all_of(splits.validation), "test": Rows.all_of(splits.test)}


def evaluation_sets(splits: Splits, forget: ForgetSplit) -> dict[str, Rows]:
    """D_F (of a sequence: all that was to be forgotten so far), D_R, D_V, D_Test and, of a shadow model, the half that it never saw."""
    sets = {"forget": Rows(splits.train, forget.forget), "retain": Rows(splits.train, forget.retain)} | held_out(splits)
    return sets if splits.unseen is None else sets | {"unseen": Rows.all_of(splits.unseen)}


def flatten(observed: Mapping[str, Observed]) -> dict[str, np.ndarray]:
    """``{"forget": {"loss": ...}}`` as ``{"forget_loss": ...}``, the names that metrics ask for."""
    return {f"{split}_{column}": values for split, columns in observed.items() for column, values in columns.items()}
