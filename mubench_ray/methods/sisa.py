"""SISA: an ensemble over shards of the data, of which only the shards that held D_F are trained again; the reference of exact unlearning."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import Context, Method, Optimizer, Phase, Taxonomy, integer, method
from mubench_ray.methods.layers import has_adapters
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Batch, Task
from mubench_ray.training.data import Rows
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter


@method("sisa", title="SISA", cites="Bourtoule et al. 2021, arXiv 1912.03817")
class SISA(Method):
    """f_U is the mean of the predictions of ``shards`` networks, each trained from scratch on its own part of D, without D_F.

    A shard that held nothing of D_F keeps the network it had before the request: its training is not charged. All others are trained again, by the
    recipe of the original, and charged: with a random D_F that is nearly always all of them, and the cost nearly that of the retrain. Shards have one slice
    (the paper's R = 1). f_O plays no part: what SISA unlearns from is its own ensemble.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss", parameters="affected shards")
    uses_lr = False

    shards: int = integer(2, 20, default=5)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Only where predictions can be averaged."""
        if task.kind != "classification":
            return f"sisa averages the class probabilities of its shards; {task.name} is {task.kind}"
        return None

    def phases(self, ctx: Context) -> list[Phase]:
        """One phase for every affected shard."""
        if has_adapters(ctx.network):
            raise MubenchError(
                "sisa trains its shards from scratch; LoRA adapters have nothing to adapt. Leave lora out for it."
            )
        recipe = ctx.training or ctx.task.training
        forget, retain = ctx.data.rows("forget"), ctx.data.rows("retain")
        part = torch.randint(self.shards, (len(retain.examples),), generator=ctx.generator("sisa"))
        ctx.network = Ensemble([ctx.fresh_network(f"shard {shard}") for shard in range(self.shards)]).to(ctx.device)
        phases = []
        for shard in range(self.shards):
            name = f"shard {shard}"
            ctx.data.sets[name] = Rows(retain.examples, retain.positions[part[retain.positions] == shard])
            if not len(ctx.data.sets[name]):
                raise MubenchError(f"sisa.shards = {self.shards}: shard {shard} holds nothing of D_R; use fewer.")
            optimizer = Optimizer(
                name, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum, recipe.schedule
            )
            phase = Phase(name, name, partial(self.member_loss, shard=shard), recipe.epochs, optimizer=optimizer, batch_size=recipe.batch_size,
                          augment=True, parameters=partial(self.member, shard=shard))  # fmt: skip
            if (part[forget.positions] == shard).any():
                phases.append(phase)
            else:
                self.before_the_request(ctx, phase)
        return phases

    def before_the_request(self, ctx: Context, phase: Phase) -> None:
        """Train a shard that the request does not touch, off the clock and the bill."""
        seed = derive("sisa", ctx.seed, phase.name)
        free = Context(ctx.task, ctx.model, ctx.network, ctx.data, seed, Meter(device=ctx.device), None)
        Loop(free, [phase], ctx.training or ctx.task.training).run()

    def member_loss(self, ctx: Context, batch: Batch, shard: int) -> Tensor:
        """CE of one member on its shard."""
        return ctx.task.losses(ctx.task.outputs(ctx.network.members[shard], batch), batch).mean()

    def member(self, ctx: Context, shard: int) -> list[str]:
        """The parameters of one member."""
        return [name for name, _ in ctx.network.named_parameters() if name.startswith(f"members.{shard}.")]


class Ensemble(nn.Module):
    """Networks that predict together."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, **inputs: Any) -> Tensor:
        """Log of the mean of the members' class probabilities, (B, classes)."""
        outputs = [member(**inputs) for member in self.members]
        log_probs = [getattr(output, "logits", output).float().log_softmax(-1) for output in outputs]
        return torch.stack(log_probs).logsumexp(0) - torch.tensor(float(len(log_probs))).log()
