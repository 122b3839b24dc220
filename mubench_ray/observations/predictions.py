"""What f_U predicts on D_F beside an incompetent teacher, for metrics that compare distributions (ZRF)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.tasks.base import Task
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import eval_mode


@observation("predictions", title="Log-probabilities on D_F, of f_U and of an incompetent teacher")
class Predictions(Observation):
    """``forget_log_probs`` and ``incompetent_forget_log_probs``, (N, K); of classification alone: a sequence model's would be tokens x vocabulary."""

    asked = False
    gives = ("forget_log_probs", "incompetent_forget_log_probs")
    reads = ("forget",)
    costs = "two passes over D_F"

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Of classification alone."""
        return None if task.kind == "classification" else f"{task.name} is {task.kind}: it has no class probabilities"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Both networks on D_F."""
        ctx, rows = seen.ctx, seen.sets["forget"]
        networks = (ctx.network, ctx.incompetent)
        return {name: log_probs(ctx, network, rows) for name, network in zip(self.gives, networks, strict=True)}


@torch.no_grad()
def log_probs(ctx: Context, network: nn.Module, rows: Rows) -> np.ndarray:
    """Log-probabilities of a network on all rows, (N, K)."""
    parts = []
    with eval_mode(network):
        for picked in torch.arange(len(rows)).split(512):
            batch = ctx.data.batch(rows, picked)
            parts.append(ctx.task.log_probs(ctx.task.outputs(network, batch), batch).double().cpu().numpy())
    return np.concatenate(parts)
