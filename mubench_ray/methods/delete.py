"""DELETE: decoupled distillation to erase, the original's own opinion without the true class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mubench_ray.methods.base import Context, LearningRate, Method, Taxonomy, method, uniform
from mubench_ray.methods.learning_rates import COMMON, MEASURED
from mubench_ray.tasks.base import Batch, Task


@method("delete", title="DELETE", cites="Zhou et al. 2025, arXiv 2503.23751")
class Delete(Method):
    """KL(f_O without the true class, renormalised || f_U) on D_F; D_R is not read."""

    taxonomy = Taxonomy(corrupts="logits", retains="logits", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(1e-5, 1e-6, 1e-3, MEASURED),
        "sgd": LearningRate(0.01, 1e-5, 0.1, COMMON),
    }
    on = "forget"

    superloss_version = 2

    epochs: float = uniform(1, 10, default=10)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Only where there is a class to take out."""
        if task.kind != "classification":
            return f"delete takes the true class out of the teacher's distribution; {task.name} is {task.kind}"
        return None

    def loss(self, ctx: Context, forget: Batch) -> Tensor:
        """KL(masked f_O || f_U)."""
        masked = ctx.log_probs(forget, ctx.original).scatter(-1, forget["labels"].unsqueeze(-1), -torch.inf).softmax(-1)
        return ctx.mean(F.kl_div(ctx.log_probs(forget), masked, reduction="none"))
