"""CT: transpose every kernel, then repair on D_R."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mubench_ray.methods.base import Context, LearningRate, Method, Optimizer, Phase, Taxonomy, choice, method, uniform
from mubench_ray.methods.layers import Convolution, convolutions, set_weight
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method(
    "ct",
    "convolution_transpose",
    title="CT",
    cites="NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276",
)
class ConvolutionTranspose(Method):
    """The two spatial axes of every square kernel change places; CE on D_R, cosine, which moves on after every epoch, as in released code, or every
    ``step``.

    In a transformer these are the patch embedding and the positional convolutions. A kernel of one spatial axis, of 1 x 1 or of unequal sides stays.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss")
    learning_rates = {
        "adam": LearningRate(0.01, 1e-4, 0.1, MEASURED),
        "sgd": LearningRate(1e-3, 1e-5, 0.1, DEEP_UNLEARN),
    }
    version = 2
    without_lora = "transposes the kernels themselves, which LoRA keeps as they are"

    epochs: float = uniform(1, 10, default=3)
    advance: str = choice("epoch", "step", default="epoch", searched=False)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a square kernel larger than 1 x 1."""
        return (
            None
            if transposable(network)
            else "ct transposes square convolution kernels; the network has none larger than 1 x 1"
        )

    def phases(self, ctx: Context) -> list[Phase]:
        """Repair after the transposition."""
        return [
            Phase(
                "repair",
                "retain",
                self.repair,
                epochs=self.epochs,
                optimizer=Optimizer(schedule="cosine", per_epoch=self.advance == "epoch"),
                before=self.transpose,
            )
        ]

    @torch.no_grad()
    def transpose(self, ctx: Context) -> None:
        """Swap the last two axes."""
        for layer in transposable(ctx.network).values():
            set_weight(layer, layer.weight.transpose(-1, -2).clone())

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)


def transposable(network: nn.Module) -> dict[str, Convolution]:
    """The convolutions with a kernel of at least two spatial axes, the last two of the same length above 1."""
    return {
        name: layer
        for name, layer in convolutions(network).items()
        if layer.weight.dim() >= 4 and layer.weight.shape[-1] == layer.weight.shape[-2] > 1
    }
