"""RNI: train random tensors in turn, adding noise to some, then everything."""

from __future__ import annotations

from functools import partial

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
    integer,
    log_uniform,
    method,
)
from mubench_ray.methods.layers import head, layer_state, no_head, norm_parameters, normal, reinitialise
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method(
    "rni",
    "repeated_noise_injection",
    title="RNI",
    cites="NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276",
)
class RepeatedNoiseInjection(Method):
    """The head is drawn anew; every early epoch trains ``tensors`` random non-norm parameter tensors and all norms by CE on D_R, after N(0, std^2) was
    added to ``noisy`` of them (not in the first epoch); the fine epochs train everything. As in released code those of the ``noisy`` that an earlier epoch
    trained are left without (``noise_on="untrained"``; ``once``: as many as there are get it, none twice) and every epoch has a new optimiser (``fresh``).

    The paper's 9 epochs are 5 early and 4 fine ones. At least two early epochs are asked for: with one, no noise is ever added. A network with
    fewer tensors than ``tensors`` trains all of them.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss")
    learning_rates = {
        "adam": LearningRate(3e-3, 1e-4, 0.1, MEASURED),
        "sgd": LearningRate(2e-4, 1e-5, 0.1, DEEP_UNLEARN),
    }
    version = 3
    without_lora = "draws the head anew and puts noise on the weights themselves, which LoRA keeps as they are"

    early_epochs: int = integer(2, 10, default=5)
    fine_epochs: int = integer(1, 10, default=4)
    tensors: int = integer(1, 20, default=9)
    noisy: int = integer(1, 20, default=6)
    std: float = log_uniform(1e-3, 1.0, default=0.04)
    noise_on: str = choice("untrained", "once", default="untrained", searched=False)
    fresh: bool = choice(True, False, default=True, searched=False)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a last layer that can be drawn anew alone."""
        reason = no_head(network)
        return f"rni draws the head anew; {reason}" if reason else None

    def phases(self, ctx: Context) -> list[Phase]:
        """A phase for every early epoch, with its own tensors, and one for the fine epochs."""
        norms = norm_parameters(ctx.network)
        names = [name for name, _ in ctx.network.named_parameters() if name not in norms]
        early, spared = [], set()
        for epoch in range(self.early_epochs):
            order = torch.randperm(len(names), generator=ctx.generator("rni", epoch)).tolist()
            trained = [names[place] for place in order[: self.tensors]]
            among = trained[: self.noisy] if self.noise_on == "untrained" else trained
            noise = [name for name in among if name not in spared][: self.noisy] if epoch else []
            spared |= set(trained if self.noise_on == "untrained" else noise)
            start = partial(self.inject, names=noise) if epoch else self.reset
            early.append(
                Phase(
                    f"early {epoch + 1}",
                    "retain",
                    self.repair,
                    parameters=partial(chosen, names={*trained, *norms}),
                    optimizer=self.optimizer("early", epoch),
                    before=start,
                )
            )
        if not self.fresh:
            return [*early, Phase("fine", "retain", self.repair, epochs=self.fine_epochs)]
        fine = [self.optimizer("fine", epoch) for epoch in range(self.fine_epochs)]
        return [*early, *(Phase("fine", "retain", self.repair, optimizer=optimizer) for optimizer in fine)]

    def optimizer(self, part: str, epoch: int) -> Optimizer:
        """The epoch's own, or one for all."""
        return Optimizer(f"{part} {epoch}") if self.fresh else Optimizer()

    def reset(self, ctx: Context) -> None:
        """Draw the head anew."""
        reinitialise(ctx, layer_state(ctx.network, head(ctx.network)), "rni")

    @torch.no_grad()
    def inject(self, ctx: Context, names: list[str]) -> None:
        """Noise on these tensors."""
        parameters = dict(ctx.network.named_parameters())
        for name in names:
            parameters[name].add_(normal(parameters[name], self.std, ctx.generator("rni", name)))

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)


def chosen(ctx: Context, names: set[str]) -> set[str]:
    """The tensors of one early epoch."""
    return names
