"""SCRUB: away from the original on what is forgotten, towards it on what is kept, in turns; then rewind."""

from __future__ import annotations

import math

from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    choice,
    integer,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.tasks.base import Batch


@method("scrub", title="SCRUB", cites="Kurmanji et al. 2023, arXiv 2302.09880")
class Scrub(Method):
    """Max pass -KL_T(f_O || f_U) on D_F in the first ``msteps`` epochs, min pass gamma CE + alpha KL_T on D_R in every epoch.

    ``rewind`` (SCRUB+R) ends with the weights, of all epochs' ends, whose error on D_F is nearest the final error on D_V. ``form="two_phase"`` is
    MU-Bench's variant: all max passes first, then all min passes. The KL of the paper's released code is scaled by T^2, as here.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="loss + representation", measured_by="f_O")
    uses_validation = True
    version = 3

    epochs: int = integer(1, 10, default=5)
    msteps: int = integer(1, 10, default=3)
    gamma: float = uniform(0.0, 1.0, default=1.0)
    alpha: float = uniform(0.0, 1.0, default=0.5)
    temperature: float = log_uniform(0.5, 5.0, default=4.0)
    rewind: bool = choice(True, False, default=True)
    form: str = choice("alternating", "two_phase", default="alternating")

    def phases(self, ctx: Context) -> list[Phase]:
        """Alternating max and min passes, or first all of the one, then all of the other."""
        steps = Optimizer(schedule="constant")
        maximise = Phase("max", "forget", self.corrupt, optimizer=steps)
        minimise = Phase("min", "retain", self.keep, optimizer=steps, after=self.remember)
        if self.form == "two_phase":
            return [maximise] * self.msteps + [minimise] * self.epochs
        return [p for epoch in range(self.epochs) for p in ([maximise] if epoch < self.msteps else []) + [minimise]]

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
            target = ctx.error("validation")
            nearest = min(reversed(ends), key=lambda end: math.fabs(end[0] - target))
            ctx.network.load_state_dict(nearest[1])
