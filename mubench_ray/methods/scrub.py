"""SCRUB: away from the original on what is forgotten, towards it on what is kept, in turns; then rewind."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    at_epochs,
    choice,
    integer,
    log_uniform,
    method,
    numbered,
    uniform,
)
from mubench_ray.methods.learning_rates import DEEP_UNLEARN
from mubench_ray.tasks.base import Batch, Classification
from mubench_ray.training.data import Rows

#: What is left of the learning rate after each of the epochs of ``decay_after``.
DECAY = 0.1
#: The part of D_V that the rewind compares with.
COMPARED = "validation of D_F's classes"


@method("scrub", title="SCRUB", cites="Kurmanji et al. 2023, arXiv 2302.09880")
class Scrub(Method):
    """Max pass -KL_T(f_O || f_U) on D_F in the first ``msteps`` epochs, min pass gamma CE + alpha KL_T on D_R in every epoch.

    The learning rate falls to a tenth after each of ``decay_after``, and both passes are in train mode, as its authors have them (``train_distill``, of which
    Deep Unlearn has a copy); ``mode="eval"`` has BatchNorm keep f_O's statistics. ``rewind`` (SCRUB+R) ends with the weights, of all epochs' ends, whose
    error on D_F is nearest the final error on D_V, on the classes of D_F where the task has any. ``form="two_phase"``: all max passes first, then all min
    passes; with CE + KL at T = 1 and neither rewind nor decay it is what MU-Bench's code runs (``preset: mu_bench``). The KL of the paper's released code is
    scaled by T^2, as here.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="loss + representation", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(
            5e-4,
            1e-5,
            0.1,
            f"its authors' notebooks (arXiv 2302.09880); {DEEP_UNLEARN}",
        ),
        "sgd": LearningRate(
            5e-4,
            1e-5,
            0.1,
            "its authors' notebooks, at the same rate (arXiv 2302.09880); the range that Deep Unlearn searches",
        ),
    }
    uses_validation = True
    version = 4
    presets = {
        "mu_bench": {
            "form": "two_phase", "epochs": 5, "msteps": 5, "gamma": 1.0, "alpha": 1.0, "temperature": 1.0, "rewind": False, "mode": "train", "decay_after": "",
        }
    }  # fmt: skip

    epochs: int = integer(1, 10, default=5)
    msteps: int = integer(1, 10, default=3)
    gamma: float = uniform(0.0, 1.0, default=1.0)
    alpha: float = uniform(0.0, 1.0, default=0.5)
    temperature: float = log_uniform(0.5, 5.0, default=4.0)
    rewind: bool = choice(True, False, default=True)
    form: str = choice("alternating", "two_phase", default="alternating")
    mode: Literal["eval", "train"] = choice("train", "eval", default="train", searched=False)
    decay_after: str = at_epochs(default="3,5,9")

    def phases(self, ctx: Context) -> list[Phase]:
        """Alternating max and min passes, or first all of the one, then all of the other."""
        if self.rewind:
            ctx.data.sets[COMPARED] = of_the_same_classes(ctx)
        maximise = [self.phase(ctx, "max", epoch) for epoch in range(self.msteps)]
        minimise = [self.phase(ctx, "min", epoch) for epoch in range(self.epochs)]
        if self.form == "two_phase":
            return maximise + minimise
        return [p for epoch in range(self.epochs) for p in (*maximise[epoch : epoch + 1], minimise[epoch])]

    def phase(self, ctx: Context, name: str, epoch: int) -> Phase:
        """A max or a min pass, the ``epoch``-th of its kind, from 0 on."""
        decays = sum(epoch >= at for at in numbered(self.decay_after, self.epochs))
        optimizer = Optimizer(lr=ctx.learning_rate * DECAY**decays)
        if name == "max":
            return Phase(name, "forget", self.corrupt, optimizer=optimizer, mode=self.mode)
        return Phase(name, "retain", self.keep, optimizer=optimizer, mode=self.mode, after=self.remember)

    def corrupt(self, ctx: Context, forget: Batch) -> Tensor:
        """-T^2 KL_T(f_O || f_U) on D_F."""
        return -self.distance(ctx, forget)

    def keep(self, ctx: Context, retain: Batch) -> Tensor:
        """Gamma CE + alpha T^2 KL_T(f_O || f_U) on D_R."""
        return self.gamma * ctx.loss(retain) + self.alpha * self.distance(ctx, retain)

    def distance(self, ctx: Context, batch: Batch) -> Tensor:
        """T^2 KL_T(f_O || f_U)."""
        T = self.temperature
        return ctx.divergence(batch, ctx.original, temperature=T, factor=T**2)

    def remember(self, ctx: Context) -> None:
        """Keep this epoch's end and its error on D_F."""
        if self.rewind:
            weights = {name: tensor.clone() for name, tensor in ctx.network.state_dict().items()}
            ctx.state.setdefault("ends", []).append((ctx.error("forget"), weights))

    def finish(self, ctx: Context) -> None:
        """Rewind to the epoch whose forget error is nearest the validation error; the latest of equals."""
        ends = ctx.state.get("ends", [])
        if ends:
            target = ctx.error(COMPARED)
            nearest = min(reversed(ends), key=lambda end: math.fabs(end[0] - target))
            ctx.network.load_state_dict(nearest[1])


def of_the_same_classes(ctx: Context) -> Rows:
    """D_V, of a task with classes those of its examples whose class is one of D_F's; all of it where there is none."""
    validation, forget = ctx.data.rows("validation"), ctx.data.rows("forget")
    if not isinstance(ctx.task, Classification):
        return validation
    forgotten = forget.examples.labels[forget.positions]
    same = torch.isin(validation.examples.labels[validation.positions], forgotten)
    return Rows(validation.examples, validation.positions[same]) if bool(same.any()) else validation
