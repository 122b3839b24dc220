"""MSG: draw anew the weights whose gradient hardly tells D_F from D_R, then repair on D_R."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    choice,
    method,
    share,
    uniform,
)
from mubench_ray.methods.layers import Layer, convolutions, linears
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch

#: What is left of the gradients of the convolution weights that were not drawn anew.
DAMPING = 0.1


@method(
    "msg",
    "mask_small_gradients",
    title="MSG",
    cites="NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276",
)
class MaskSmallGradients(Method):
    """g = grad of CE over |D_F| samples of D_R - grad of CE over D_F; in every convolution the share ``rate`` of weights with the smallest |g| is drawn
    anew (Kaiming normal over the fan out, as ResNet draws them), the gradients of its other weights are damped to a tenth, not their weight decay; CE on
    D_R, learning rate rising and falling linearly, after every epoch, as in released code, or every ``step``.

    Where a network has no convolution its linear layers take their place. The gradients are taken in eval mode, so that no BatchNorm statistic moves;
    released code takes them in train mode (``mode``).
    The paper damps gradients; here the step is damped, which is the same for SGD and not without effect for Adam. Released code draws with fan out, too.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss")
    learning_rates = {
        "adam": LearningRate(0.01, 1e-4, 0.1, MEASURED),
        "sgd": LearningRate(1e-3, 1e-5, 0.1, DEEP_UNLEARN),
    }
    version = 4
    without_lora = "draws weights of the network itself anew, which LoRA keeps as they are"

    epochs: float = uniform(1, 10, default=5)
    rate: float = share(0.0, 1.0, default=0.3)
    advance: str = choice("epoch", "step", default="epoch", searched=False)
    mode: Literal["eval", "train"] = choice("eval", "train", default="eval", searched=False, later=True)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a convolution or a linear layer."""
        return (
            None
            if layers(network)
            else "msg draws weights of convolution or linear layers anew; the network has neither"
        )

    def phases(self, ctx: Context) -> list[Phase]:
        """Gradients, re-initialisation, repair."""
        return [
            Phase(
                "gradients",
                "paired",
                self.difference,
                driver="forget",
                mode=self.mode,
                update=self.accumulate,
                after=self.reinitialise,
                whole=True,
            ),
            Phase(
                "repair",
                "retain",
                self.repair,
                epochs=self.epochs,
                optimizer=Optimizer(schedule="peak", per_epoch=True)
                if self.advance == "epoch"
                else Optimizer(schedule="triangle"),
            ),
        ]

    def difference(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """Sum of CE over as many D_R rows as there are D_F rows, less the sum over these."""
        return ctx.losses(retain)[: len(forget)].sum() - ctx.losses(forget).sum()

    def accumulate(self, ctx: Context, retain: Batch, forget: Batch) -> None:
        """Add up the gradients of the layers' weights."""
        total = ctx.state.setdefault("gradient", {})
        for name, layer in layers(ctx.network).items():
            if layer.weight.grad is not None:
                total[name] = total.get(name, 0) + layer.weight.grad

    @torch.no_grad()
    def reinitialise(self, ctx: Context) -> None:
        """Draw the weights with the smallest gradients anew, layer by layer, and remember to damp the others."""
        ctx.damping = {}
        found = layers(ctx.network)
        for name, gradient in ctx.state.pop("gradient").items():
            weight = found[name].weight
            drawn = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            drawn[gradient.abs().flatten().argsort(stable=True)[: round(self.rate * weight.numel())]] = True
            drawn = drawn.view_as(weight)
            generator = ctx.generator("msg", name)
            fresh = nn.init.kaiming_normal_(torch.empty(weight.shape), 0, "fan_out", "relu", generator)
            weight.copy_(torch.where(drawn, fresh.to(weight), weight))
            ctx.damping[f"{name}.weight"] = torch.where(drawn, 1.0, DAMPING).to(weight)

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)


def layers(network: nn.Module) -> dict[str, Layer]:
    """The convolutions or, where there are none, the linear layers; those whose weight is no parameter of its own (weight normalisation) are left out."""
    found = convolutions(network) or linears(network)
    return {name: layer for name, layer in found.items() if isinstance(layer.weight, nn.Parameter)}
