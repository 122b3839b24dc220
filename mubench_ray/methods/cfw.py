"""CFW: blur the convolutions with noise, then repair on D_R with class weights."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    choice,
    integer,
    method,
    uniform,
)
from mubench_ray.methods.layers import class_weights, convolutions, normal, set_weight
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch, Task


@method(
    "cfw",
    "confuse_weights",
    title="CFW",
    cites="NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276",
)
class ConfuseWeights(Method):
    """N(0, std^2) on the weights of every convolution; CE on D_R weighted by 1 / n_c, cosine; N(0, small_std^2) again before the last epoch.

    Released code reaches only the top-level convolutions (in torchvision's ResNet: the first; ``where="top"``); here it is all of them, as the paper has it.
    Its class weights multiply a batch's mean loss by their own mean, which is about 1; its cosine moves on after every epoch (``advance``).
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss")
    learning_rates = {
        "adam": LearningRate(0.01, 1e-4, 0.1, MEASURED),
        "sgd": LearningRate(7e-4, 1e-5, 0.1, DEEP_UNLEARN),
    }
    version = 2
    without_lora = "puts noise on the kernels themselves, which LoRA keeps as they are"

    epochs: int = integer(1, 10, default=4)
    std: float = uniform(0.0, 1.0, default=0.6)
    small_std: float = uniform(0.0, 1.0, default=0.005)
    advance: str = choice("step", "epoch", default="step", searched=False, later=True)
    where: str = choice("all", "top", default="all", searched=False, later=True)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Only where there are classes to weigh."""
        if task.kind != "classification":
            return f"cfw weighs its loss by class; {task.name} is {task.kind}"
        return None

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a convolution."""
        return None if convolutions(network) else "cfw adds noise to convolutions; the network has none"

    def phases(self, ctx: Context) -> list[Phase]:
        """All epochs but the last, then the last, each after its noise."""
        optimizer = Optimizer(schedule="cosine", per_epoch=self.advance == "epoch")
        return [
            Phase(
                "repair",
                "retain",
                self.repair,
                epochs=self.epochs - 1,
                optimizer=optimizer,
                before=partial(self.blur, std=self.std),
            ),
            Phase("last", "retain", self.repair, optimizer=optimizer, before=partial(self.blur, std=self.small_std)),
        ]

    @torch.no_grad()
    def blur(self, ctx: Context, std: float) -> None:
        """Noise on every kernel, each from its own stream; raises MubenchError where none is at the top."""
        ctx.state["class_weights"] = class_weights(ctx, 1.0)
        reached = {n: layer for n, layer in convolutions(ctx.network).items() if self.where == "all" or "." not in n}
        if not reached:
            raise MubenchError(
                "cfw.where = 'top': every convolution of this network is inside another module. Use where: all."
            )
        for name, layer in reached.items():
            set_weight(layer, layer.weight + normal(layer.weight, std, ctx.generator("cfw", name, std)))

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R), weighted by class."""
        return ctx.loss(retain, ctx.state["class_weights"][retain["labels"]])
