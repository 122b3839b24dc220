"""AMUN: fine-tuning on the nearest pictures that f_O takes for something else, with what it takes them for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Phase,
    Taxonomy,
    choice,
    integer,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.methods.pixels import joined, no_pixels, own_ascent, picked, pixels, span, with_pixels
from mubench_ray.tasks.base import Batch, Task

#: Pictures that are attacked at a time, at most, and the parts that D_F is attacked in, at least, where it has as many examples.
AT_ONCE, PARTS = 256, 16


@method("amun", title="AMUN", cites="Ebrahimpour-Boroojeny et al. 2025, arXiv 2503.00917")
class Amun(Method):
    """CE on D_R u D_F u D_A, or without D_F (``forget: false``, the authors' advonly). D_A: of every D_F example the first picture on PGD's way that f_O
    calls other than y, with that label.

    PGD in the L2 ball of radius r: ``steps`` steps of r / 10 along the gradient, within pixels in [0, 1]; where f_O still says y, r doubles and the way
    goes on. Beyond the pixels' whole cube it is given f_O's second class. r starts at ``radius``, released as .04 (.01 on a sample, whose median then
    starts the rest, in the authors' other script); steps are 50, epochs 10 at lr .01, SGD with momentum .9. A D_A picture comes in the batch of its example.

    The way is charged, and on small problems can cost more than a retrain: the attack is a phase, D_F's parts one after the other, and where the budget
    does not reach only as many parts are attacked as its share leaves; their pictures then come in the place of the missing ones, in turns.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
    version = 2
    learning_rates = {
        "adam": LearningRate(1e-3, 1e-5, 0.01, "no paper runs it so: the generic range of Adam (docs/add-a-method.md)"),
        "sgd": LearningRate(
            0.01, 1e-5, 0.1, "its released code, SGD at .01, which tries 1e-5 to 1e-1 (arXiv 2503.00917)"
        ),
    }

    epochs: float = uniform(1, 10, default=10)
    radius: float = log_uniform(0.01, 2.0, default=0.04)
    steps: int = integer(5, 50, default=50)
    forget: bool = choice(True, False, default=True)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs pixels to attack."""
        return no_pixels(task)

    def phases(self, ctx: Context) -> list[Phase]:
        """The attack, then one phase."""
        size = min(AT_ONCE, math.ceil(len(ctx.data.rows("forget")) / PARTS))
        rows = 2 if self.forget else 1
        return [
            Phase("attack", "forget", self.attack, batch_size=size, mode="eval", before=self.begin, update=self.keep, kind=str),
            Phase("adapt", "mixed", self.adapt, epochs=self.epochs, before=self.share_out, forget_rows=rows),
        ]  # fmt: skip

    def begin(self, ctx: Context) -> None:
        """No picture, and of no example."""
        ctx.state |= {"pictures": [], "labels": [], "of": []}

    def attack(self, ctx: Context, forget: Batch) -> Tensor:
        """Find the pictures of a part of D_F; no gradient of f_U is left."""
        rows = ctx.world.rows(len(forget))
        if rows is None:
            ctx.state["found"] = self.crossed(ctx, forget)
        else:  # each process goes its own pictures' way, however long that is
            with ctx.world.split(forget, rows) as own:
                found = self.crossed(ctx, own)
            ctx.state["found"] = ctx.world.gather(found, rows, len(forget))
        return torch.zeros((), device=ctx.device, requires_grad=True)

    def keep(self, ctx: Context, forget: Batch) -> None:
        """Keep them with the examples that they are of."""
        pictures, labels = ctx.state.pop("found")
        for name, part in (("pictures", pictures), ("labels", labels), ("of", forget["index"])):
            ctx.state[name].append(part)

    def share_out(self, ctx: Context) -> None:
        """Where each example's picture lies: its own or, where the budget left it none, one of the others', in turns; -1 where there is not one."""
        rows, of = ctx.data.rows("forget"), ctx.state.pop("of")
        place = torch.full((len(rows.examples),), -1, dtype=torch.long)
        if of:
            found = torch.cat(of).cpu()
            place[rows.positions] = torch.arange(len(rows)) % len(found)
            place[found] = torch.arange(len(found))
            for name in ("pictures", "labels"):
                ctx.state[name] = torch.cat(ctx.state[name])
        ctx.state["place"] = place.to(ctx.device)

    def crossed(self, ctx: Context, forget: Batch) -> tuple[Tensor, Tensor]:
        """The pictures just beyond f_O's boundary, as the network reads them, and what f_O calls them."""
        black, white = span(ctx)
        start, true = (pixels(forget) - black) / (white - black), forget["labels"]
        found, labels, at = start.clone(), true.clone(), start.clone()
        radius = self.radius
        left = torch.arange(len(true), device=true.device)

        while len(left):
            for _ in range(self.steps):
                gradient, log_probs = own_ascent(
                    ctx, ctx.original, with_pixels(picked(forget, left), black + at * (white - black))
                )
                called = log_probs.argmax(1)
                over = called != true[left]
                if radius > math.sqrt(start[0].numel()):  # nothing lies further away
                    called = log_probs.scatter(1, true[left][:, None], -math.inf).argmax(1)
                    over = torch.ones_like(over)
                found[left[over]], labels[left[over]] = at[over], called[over]
                left, at, gradient = left[~over], at[~over], gradient[~over]
                if not len(left):
                    break
                # In pixels of [0, 1] the gradient is that of the chain rule.
                away = at + radius / 10 * unit(gradient * (white - black)) - start[left]
                length = away.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                at = (start[left] + away * (radius / length.clamp(min=1e-10)).clamp(max=1.0)).clamp(0, 1)
            radius *= 2
        return black + found * (white - black), labels

    def adapt(self, ctx: Context, batch: Batch) -> Tensor:
        """CE on the batch and on the attacked pictures of its D_F rows."""
        sources = (batch.forget & (ctx.state["place"][batch["index"]] >= 0)).nonzero().flatten()
        kept = torch.ones_like(batch.forget) if self.forget else ~batch.forget
        place = ctx.state["place"][batch["index"][sources]]
        return ctx.loss(joined(batch, kept, ctx.state["pictures"][place], ctx.state["labels"][place], sources))


def unit(gradient: Tensor) -> Tensor:
    """Every example's gradient, (B, C, H, W), at length 1; 0 stays 0."""
    return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-10).view(-1, 1, 1, 1)
