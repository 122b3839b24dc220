"""The curve of a trial: what f_U does at shares of the retrain's cost, on samples of the evaluation sets. Never on the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mubench_ray.randomness import torch_generator
from mubench_ray.results.schema import CURVE_METRICS, CURVE_SHARES
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import evaluate
from mubench_ray.trial import Trial


class Curve:
    """Evaluates f_U on samples of every set, of at most ``size`` examples, each time a share of the retrain's FLOs (of the declared budget where there is no
    retrain) is passed; off the clock."""

    def __init__(
        self, trial: Trial, sets: Mapping[str, Rows], size: int, reference_flos: float, points: list[dict[str, Any]]
    ) -> None:
        self.trial, self.reference_flos, self.points = trial, reference_flos, points
        self.sets = {name: sample(rows, name, size) for name, rows in sets.items() if f"{name}_loss" in CURVE_METRICS}
        self.due = list(CURVE_SHARES)

    def __call__(self, ctx: Context) -> None:
        """Evaluate if the next share has been reached."""
        if self.due and ctx.meter.flos >= self.due[0] * self.reference_flos:
            self.point(ctx)
            while self.due and ctx.meter.flos >= self.due[0] * self.reference_flos:
                del self.due[0]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"points": list(self.points), "due": list(self.due)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.points[:], self.due = state["points"], state["due"]

    def point(self, ctx: Context) -> None:
        """Evaluate now, unless the last point is of this very moment."""
        if self.points and self.points[-1]["flos"] == ctx.meter.flos and len(self.points) > 1:
            self.points.pop()
        with ctx.meter.paused():
            point: dict[str, Any] = {
                "trial_id": self.trial.id,
                "flos": ctx.meter.flos,
                "seconds": ctx.meter.seconds,
                "retrain_share": ctx.meter.flos / self.reference_flos
                if self.reference_flos and self.trial.retrain
                else None,
            }
            for name, rows in self.sets.items():
                observed = evaluate(ctx.network, ctx.data, rows)
                point |= {
                    f"{name}_accuracy": known(observed["correct"].mean()),
                    f"{name}_loss": known(observed["loss"].mean()),
                }
            self.points.append(point)


def sample(rows: Rows, stream: str, size: int) -> Rows:
    """At most ``size`` of the rows, always the same ones."""
    if len(rows) <= size:
        return rows
    picked = torch.randperm(len(rows), generator=torch_generator("sample", stream, len(rows)))[:size].sort().values
    return Rows(rows.examples, rows.positions[picked])


def known(value: float) -> float | None:
    """A mean, or None where a task has none to show."""
    return None if np.isnan(value) else value
