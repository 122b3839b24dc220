"""PRMQ: prune and redraw nearly everything, repair on D_R with the original's entropy as guide, quantise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, method, share, uniform
from mubench_ray.methods.layers import Layer, class_weights, convolutions, linears, set_weight
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch, Task


@method("prmq", title="PRMQ", cites="NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276")
class PruneRedrawQuantise(Method):
    """The share ``prune_rate`` of all convolution and linear weights with the smallest |w| is drawn anew from U(+-sqrt(1 / fan_in)); then on D_R
    CE with weights n_c^-class_exponent plus (entropy of f_U - entropy of f_O)^2; at the end every parameter goes to half precision and back.

    The pruning is global: one threshold for all layers. Released code runs one step too many; here a fraction of an epoch is rounded up to whole batches.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss + entropy", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(3e-3, 1e-4, 0.1, MEASURED),
        "sgd": LearningRate(5e-4, 1e-5, 0.1, DEEP_UNLEARN),
    }
    without_lora = "prunes and rounds the weights themselves, which LoRA keeps as they are"

    superloss_version = 2

    epochs: float = uniform(1, 10, default=3.2)
    prune_rate: float = share(0.0, 1.0, default=0.99)
    class_exponent: float = uniform(0.0, 1.0, default=0.1)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Only where there are classes to weigh."""
        if task.kind != "classification":
            return f"prmq weighs its loss by class; {task.name} is {task.kind}"
        return None

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a convolution or a linear layer."""
        return None if pruned(network) else "prmq prunes convolution and linear layers; the network has neither"

    def phases(self, ctx: Context) -> list[Phase]:
        """One stretch of repair after pruning."""
        return [Phase("repair", "retain", self.repair, epochs=self.epochs, before=self.redraw)]

    @torch.no_grad()
    def redraw(self, ctx: Context) -> None:
        """Prune by global magnitude and draw what was pruned anew."""
        ctx.state["class_weights"] = class_weights(ctx, self.class_exponent)
        layers = pruned(ctx.network)
        size = torch.cat([layer.weight.abs().flatten() for layer in layers.values()])
        chosen = torch.zeros_like(size, dtype=torch.bool)
        chosen[size.argsort(stable=True)[: round(self.prune_rate * len(size))]] = True
        for (name, layer), picked in zip(
            layers.items(), chosen.split([layer.weight.numel() for layer in layers.values()])
        ):
            bound = layer.weight[0].numel() ** -0.5
            fresh = bound * (2 * torch.rand(layer.weight.shape, generator=ctx.generator("prmq", name)) - 1)
            set_weight(layer, torch.where(picked.view_as(layer.weight), fresh.to(layer.weight), layer.weight))

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """Weighted CE(D_R) + MSE of the entropies."""
        weight = ctx.state["class_weights"][retain["labels"]]
        own, wanted = entropy(ctx.log_probs(retain)), entropy(ctx.log_probs(retain, ctx.original))
        return ctx.loss(retain, weight) + ctx.mean(F.mse_loss(own, wanted, reduction="none"))

    @torch.no_grad()
    def finish(self, ctx: Context) -> None:
        """Round every parameter to half precision."""
        for parameter in ctx.network.parameters():
            parameter.copy_(parameter.half())


def pruned(network: nn.Module) -> dict[str, Layer]:
    """The layers whose weights are pruned."""
    return {**convolutions(network), **linears(network)}


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy of each row of log-probabilities (B, K), (B,), in nats."""
    return -(log_probs.exp() * log_probs).sum(-1)
