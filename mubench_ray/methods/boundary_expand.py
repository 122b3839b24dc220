"""Boundary Expand: forgotten examples are given to a class of their own, which is then cut off."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, method, uniform
from mubench_ray.methods.layers import head, no_head, normal
from mubench_ray.methods.learning_rates import BOUNDARY
from mubench_ray.tasks.base import Batch, Classification, Task


class Widened(nn.Module):
    """A head and one output more, which shows in train mode alone: whoever evaluates sees the classes."""

    def __init__(self, head: nn.Linear, shadow: nn.Linear) -> None:
        super().__init__()
        self.head, self.shadow = head, shadow

    def forward(self, features: Tensor) -> Tensor:
        """Logits, (..., classes + 1) in train mode, else (..., classes)."""
        logits = self.head(features)
        return torch.cat([logits, self.shadow(features)], -1) if self.training else logits


@method("boundary_expand", title="Boundary Expand", cites="Chen et al. 2023, arXiv 2303.11570")
class BoundaryExpand(Method):
    """CE(f_U(x), K + 1) on D_F over K + 1 classes; the (K + 1)-th, the shadow class, is cut off at the end.

    The shadow class starts as released code draws it (Xavier normal of the widened layer, no bias) and is there from the start to the end of the run. 10 epochs
    are released, with SGD at 1e-5, momentum .9.
    """

    taxonomy = Taxonomy(corrupts="data")
    learning_rates = BOUNDARY
    without_lora = "widens the head, which LoRA keeps as it is"
    on = "forget"

    epochs: float = uniform(1, 10, default=10)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs classes to add one to."""
        return None if issubclass(task, Classification) else f"it adds a class, and {task.name} is {task.kind}"

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a last layer that can be widened alone."""
        reason = no_head(network)
        return f"boundary_expand widens the last layer; {reason}" if reason else None

    def phases(self, ctx: Context) -> list[Phase]:
        """Widen the head, then one phase. Before the run and not within it, so that a checkpoint finds the network as it was."""
        name, classes = head(ctx.network), classes_of(ctx)
        last = ctx.network.get_submodule(name)
        if not isinstance(last, nn.Linear) or last.out_features != classes:
            raise MubenchError(
                f"boundary_expand: the last layer {name} does not give the {classes} classes themselves."
            )
        shadow = nn.Linear(last.in_features, 1, bias=last.bias is not None).to(last.weight)
        std = math.sqrt(2 / (last.in_features + classes + 1))
        with torch.no_grad():
            shadow.weight.copy_(normal(shadow.weight, std, ctx.generator("shadow")))
            if shadow.bias is not None:
                shadow.bias.zero_()
        ctx.network.set_submodule(name, Widened(last, shadow))
        return super().phases(ctx)

    def loss(self, ctx: Context, forget: Batch) -> Tensor:
        """CE towards the shadow class."""
        return ctx.loss(forget.replace(labels=torch.full_like(forget["labels"], classes_of(ctx))))

    def finish(self, ctx: Context) -> None:
        """Cut the shadow class off."""
        for name, module in list(ctx.network.named_modules()):
            if isinstance(module, Widened):
                ctx.network.set_submodule(name, module.head)


def classes_of(ctx: Context) -> int:
    """The classes of the task; raises MubenchError where it has none."""
    if not isinstance(ctx.task, Classification):
        raise MubenchError(f"task {ctx.task.name} has no classes to add one to.")
    return ctx.task.classes
