"""Fine-tuning a copy of a network for some steps while a set is watched: what relearning observations share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from mubench_ray.observations.base import Seen
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Batch
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import evaluate
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.trial import Frozen, Unlearning


class FineTuning(Frozen):
    """So many steps, looking every few; ``lr`` None takes that of the original's training, whose optimizer and batch size they have."""

    steps: int = Field(default=50, ge=1)
    every: int = Field(default=5, ge=1)
    lr: float | None = Field(default=None, gt=0)

    @property
    def looked_at(self) -> np.ndarray:
        """The steps after which it is looked, 0 first, (P,)."""
        return np.arange(self.steps // self.every + 1) * float(self.every)


def watched(
    seen: Seen, network: nn.Module, trained: Rows, watch: Mapping[str, Rows], options: FineTuning, stream: str
) -> dict[str, np.ndarray]:
    """Accuracy on every watched set before, and after every ``every``-th step of, fine-tuning ``network`` on ``trained``, (P,) each. The network is changed;
    the order of its batches depends on ``stream`` and the trial's seed alone."""
    network.requires_grad_(True)
    found: dict[str, list[float]] = {name: [] for name in watch}
    data = UnlearningData(seen.ctx.task, seen.ctx.model, {"retain": trained}, seen.ctx.device)
    taken = -1  # the first call comes before the first step

    def look(ctx: Context) -> None:
        nonlocal taken
        taken += 1
        if taken % options.every == 0:
            for name, rows in watch.items():
                found[name].append(float(evaluate(network, data, rows)["correct"].mean()))

    def loss(ctx: Context, batch: Batch) -> Tensor:
        return ctx.loss(batch)

    training = seen.trial.training
    seed, lr = derive(stream, seen.trial.seed), options.lr or training.lr
    ctx = Context(seen.ctx.task, seen.ctx.model, network, data, seed, Meter(device=data.device), lr)
    kept = training.model_dump(include={"optimizer", "batch_size", "weight_decay", "momentum", "clip", "compute"})
    epochs = options.steps / data.steps("retain", kept["batch_size"], 1)
    phase = Phase("relearn", "retain", loss, epochs=epochs, optimizer=Optimizer(schedule="constant"))
    Loop(ctx, [phase], Unlearning(**kept), look).run()
    return {name: np.array(accuracy[: len(options.looked_at)]) for name, accuracy in found.items()}
