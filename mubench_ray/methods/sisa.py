"""SISA: an ensemble over shards of the data, of which only the shards that held D_F are trained again; the reference of exact unlearning."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import Context, Method, Optimizer, Phase, Taxonomy, integer, method
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Batch, Task
from mubench_ray.training.data import Rows
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.trial import Unlearning

#: Fewest training examples a shard, so that none is left with nothing to train on.
EXAMPLES_A_SHARD = 20


@method("sisa", title="SISA", cites="Bourtoule et al. 2021, arXiv 1912.03817")
class SISA(Method):
    """f_U is the mean of the predictions of ``shards`` networks, each trained from scratch on its own part of D, without D_F.

    A shard is trained on its first slice, then on its first two, up to all ``slices``, each time for 2 / (slices + 1) of the original's epochs: as many
    examples in all as without slices. A request sets a shard back to where its first slice that holds something of D_F came in; what follows is
    trained again, by the recipe of the original, and charged. What a shard learnt before that, and shards that the request does not touch, it had
    before the request: not charged. With a random D_F nearly every shard is hit, and without slices the cost is nearly that of the retrain. f_O plays no
    part: what SISA unlearns from is its own ensemble, in a sequence of deletions that of the step before.
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss", parameters="affected shards")
    uses_lr = False
    #: A shard's last batch of one example joins the batch before it, its size is the draw's to decide (2); the budget shortens all shards alike (3).
    version = 3
    without_superloss = "trains its shards by the recipe of the original, which knows no SuperLoss"
    without_lora = "trains its shards from scratch: adapters have nothing to adapt"

    shards: int = integer(2, 20, default=5)
    slices: int = integer(1, 10, default=1, later=True)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Only where predictions can be averaged."""
        if task.kind != "classification":
            return f"sisa averages the class probabilities of its shards; {task.name} is {task.kind}"
        return None

    def refusal_for_options(self, options: Unlearning, examples: int | None = None) -> str | None:
        """No LoRA, and a shard has to hold something."""
        if examples is not None and examples < EXAMPLES_A_SHARD * self.shards * self.slices:
            parts = f"sisa.shards = {self.shards}" + (f" of {self.slices} slices" if self.slices > 1 else "")
            return f"{parts} of {examples} training examples hold fewer than {EXAMPLES_A_SHARD} each: use fewer or more data"
        return super().refusal_for_options(options, examples)

    def result_of(self, network: nn.Module) -> nn.Module:
        """An ensemble of copies of the network."""
        return Ensemble([copy.deepcopy(network) for _ in range(self.shards)])

    def phases(self, ctx: Context) -> list[Phase]:
        """For every affected shard one phase a slice, from the first that the request touches."""
        size = len(ctx.data.rows("retain").examples)
        shard_of = torch.randint(self.shards, (size,), generator=ctx.generator("sisa"))
        slice_of = torch.randint(self.slices, (size,), generator=ctx.generator("sisa slices"))
        before = ctx.network if isinstance(ctx.network, Ensemble) else None
        fresh = [ctx.fresh_network(f"shard {shard}") for shard in range(self.shards)]
        ctx.network = Ensemble(fresh).to(ctx.device)
        phases = []
        for shard in range(self.shards):
            stages = self.stages(ctx, shard, shard_of, slice_of)
            touched = slice_of[[p for p in ctx.data.rows("forget").positions.tolist() if shard_of[p] == shard]]
            if len(touched):
                kept = int(touched.min())
                self.before_the_request(ctx, stages[:kept])
                phases += stages[kept:]
            elif before is not None:
                ctx.network.members[shard].load_state_dict(before.members[shard].state_dict())
            else:
                self.before_the_request(ctx, stages)
        return phases

    def stages(self, ctx: Context, shard: int, shard_of: Tensor, slice_of: Tensor) -> list[Phase]:
        """The training of a shard: its D_R rows in the first slice, in the first two, ..."""
        recipe = ctx.training or ctx.task.training
        retain = ctx.data.rows("retain")
        inside = retain.positions[shard_of[retain.positions] == shard]
        stages = []
        for last in range(self.slices):
            name = f"shard {shard}" + (f" up to slice {last}" if self.slices > 1 else "")
            ctx.data.sets[name] = Rows(retain.examples, inside[slice_of[inside] <= last])
            if not len(ctx.data.sets[name]):
                raise MubenchError(f"sisa.shards = {self.shards}: {name} holds nothing of D_R; use fewer.")
            optimizer = Optimizer(
                name, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum, recipe.schedule
            )
            epochs = recipe.epochs * 2 / (self.slices + 1)
            stages.append(Phase(name, name, partial(self.member_loss, shard=shard), epochs, optimizer=optimizer, batch_size=recipe.batch_size,
                                augment=True, parameters=partial(self.member, shard=shard)))  # fmt: skip
        return stages

    def before_the_request(self, ctx: Context, stages: list[Phase]) -> None:
        """Train what the request does not touch, off the clock and the bill; a stage's batches do not depend on the others."""
        for stage in stages:
            seed = derive("sisa", ctx.seed, stage.name)
            free = Context(ctx.task, ctx.model, ctx.network, ctx.data, seed, Meter(device=ctx.device), None)
            Loop(free, [stage], ctx.training or ctx.task.training).run()

    def member_loss(self, ctx: Context, batch: Batch, shard: int) -> Tensor:
        """CE of one member on its shard."""
        return ctx.task.losses(ctx.task.outputs(ctx.network.get_submodule(f"members.{shard}"), batch), batch).mean()

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
