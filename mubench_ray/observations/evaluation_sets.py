"""The evaluation sets: loss, correctness, confidence and entropy of every example, of f_U and of its retrain.

Where D_F is defined by classes, or other groups that the data knows, D_V and D_Test are what they hold of the others, the kept ones: on the whole of D_Test
who forgets nothing wins. What they hold of the classes of D_F is a set of its own, which D_F is compared with: an attack that tells D_F from D_Test by its
class says nothing of membership.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mubench_ray.forget import ForgetSplit
from mubench_ray.observations.base import Observation, Seen, Trained, observation
from mubench_ray.tasks.base import Examples, Splits
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import Observed, evaluate

#: D_V and D_Test.
HELD_OUT = ("validation", "test")
#: What D_V and D_Test hold of the classes that D_F is of.
FORGOTTEN = tuple(f"forgotten_{name}" for name in HELD_OUT)
#: D_F, D_R, D_V, D_Test and, of a shadow model, the half of the training set that it never saw.
SETS = ("forget", "retain", *HELD_OUT, *FORGOTTEN, "unseen")


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
            observed |= {f"retrain_{name}": values for name, values in of_retrain(seen, seen.retrain, observed).items()}
        return observed


def of_retrain(seen: Seen, retrain: Trained, ours: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """What the retrain does on the same examples, as its artifact holds it; of one that a release made which looked at other sets, or at less of them, what
    is found now."""
    known, sets = (
        retrain.observed,
        {name: rows for name, rows in seen.sets.items() if name in SETS and name != "unseen"},
    )
    wanted = {name: len(v) for name, v in ours.items() if not name.startswith("unseen_")}
    if all(len(known.get(name, ())) == size for name, size in wanted.items()):
        return known
    network = retrain.load_into(seen.ctx.model.build(seen.ctx.task)).to(seen.ctx.device)
    return flatten({name: evaluate(network, seen.ctx.data, rows) for name, rows in sets.items()})


def held_out(splits: Splits, forget: ForgetSplit) -> dict[str, Rows]:
    """D_V and D_Test; where D_F is of classes, the others of them and, as sets of their own, these."""
    found: dict[str, Rows] = {}
    for name, examples in zip(HELD_OUT, (splits.validation, splits.test), strict=True):
        among = of_forgotten(splits, forget, examples)
        if among is None or among.all() or not among.any():
            found[name] = Rows.all_of(examples)
        else:
            found[name] = Rows(examples, (~among).nonzero().flatten())
            found[f"forgotten_{name}"] = Rows(examples, among.nonzero().flatten())
    return found


def of_forgotten(splits: Splits, forget: ForgetSplit, examples: Examples) -> Tensor | None:
    """Which examples of a split, bool (N,), are of the classes or other groups that D_F is of: as its sampler says or, of a list, where D_R has nothing left
    of any class of D_F; None where D_F is no such set."""
    among = forget.sampler.among(examples)
    if among is None:
        labels = splits.train.labels
        own = labels[forget.forget].unique()
        among = None if torch.isin(labels[forget.retain], own).any() else torch.isin(examples.labels, own)
    return among


def evaluation_sets(splits: Splits, forget: ForgetSplit) -> dict[str, Rows]:
    """D_F (of a sequence: all that was to be forgotten so far), D_R, D_V and D_Test, both parted where D_F is of classes, and, of a shadow model, the half
    that it never saw."""
    sets = {"forget": Rows(splits.train, forget.forget), "retain": Rows(splits.train, forget.retain)}
    sets |= held_out(splits, forget)
    return sets if splits.unseen is None else sets | {"unseen": Rows.all_of(splits.unseen)}


def flatten(observed: Mapping[str, Observed]) -> dict[str, np.ndarray]:
    """``{"forget": {"loss": ...}}`` as ``{"forget_loss": ...}``, the names that metrics ask for."""
    return {f"{split}_{column}": values for split, columns in observed.items() for column, values in columns.items()}
