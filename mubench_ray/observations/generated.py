"""What shows only in what f_U generates (a summary, a picture): the task judges it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.randomness import torch_generator
from mubench_ray.tasks.base import Task
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import eval_mode


@observation("generated", title="Scores of what f_U generates for D_F and D_Test")
class Generated(Observation):
    """``forget_<score>`` and ``test_<score>`` of ``task.judged`` random examples, the same ones for one seed; examples without a score are left out.
    ``forget_judged`` and ``test_judged`` (N,) are 1 for each that was judged."""

    version = 2
    asked = False
    gives = ("forget_*", "test_*")
    reads = ("forget", "test")
    costs = "generates for task.judged examples of either set"

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Where a task judges nothing."""
        return None if task.judged else f"{task.name} judges nothing that is generated"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Generate and judge."""
        ctx, found = seen.ctx, {}
        with eval_mode(ctx.network):
            for name in self.reads:
                rows = seen.sets[name]
                columns = rows.examples.take(sampled(rows, ctx.task.judged, name, seen.trial.seed))
                columns = {key: column.to(ctx.device) for key, column in columns.items()}
                scores = ctx.task.judge(ctx.model, ctx.network, columns, ctx.device)
                found |= {f"{name}_{key}": values[~np.isnan(values)] for key, values in scores.items()}
                if scores:
                    found[f"{name}_judged"] = np.ones(len(columns["index"]))
        return found


def sampled(rows: Rows, size: int, stream: str, seed: int) -> Tensor:
    """Positions of at most ``size`` of the rows, drawn at random by the seed and no more: data sets lie sorted, by topic or by length."""
    generator = torch_generator("generated", stream, seed)
    return rows.positions[torch.randperm(len(rows), generator=generator)[:size].sort().values]
