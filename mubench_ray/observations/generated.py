"""What shows only in what f_U generates (a summary, a picture): the task judges it."""

from __future__ import annotations

from typing import Any

import numpy as np

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.tasks.base import Task
from mubench_ray.training.evaluate import eval_mode


@observation("generated", title="Scores of what f_U generates for D_F and D_Test")
class Generated(Observation):
    """``forget_<score>`` and ``test_<score>`` of the first ``task.judged`` examples; examples without a score are left out."""

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
                columns = rows.examples.take(rows.positions[: ctx.task.judged])
                columns = {key: column.to(ctx.device) for key, column in columns.items()}
                scores = ctx.task.judge(ctx.model, ctx.network, columns, ctx.device)
                found |= {f"{name}_{key}": values[~np.isnan(values)] for key, values in scores.items()}
        return found
