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
from mubench_ray.methods.pixels import ascent, joined, no_pixels, picked, pixels, span
from mubench_ray.tasks.base import Batch, Task

#: Pictures that are attacked at a time.
AT_ONCE = 256


@method("amun", title="AMUN", cites="Ebrahimpour-Boroojeny et al. 2025, arXiv 2503.00917")
class Amun(Method):
    """CE on D_R u D_F u D_A, or without D_F (``forget: false``, the authors' advonly). D_A: of every D_F example the first picture on PGD's way that f_O
    calls other than y, with that label.

    PGD in the L2 ball of radius r: ``steps`` steps of r / 10 along the gradient, within pixels in [0, 1]; where f_O still says y, r doubles and the way
    goes on. Beyond the pixels' whole cube it is given f_O's second class. r starts at ``radius``, released as .04 (.01 on a sample, whose median then
    starts the rest, in the authors' other script); steps are 50, epochs 10 at lr .01, SGD with momentum .9. The way is charged: on small problems it
    can cost more than a retrain, and a larger radius or fewer steps are the remedy. A D_A picture comes in the batch of its example.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
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
        rows = 2 if self.forget else 1
        return [Phase("adapt", "mixed", self.adapt, epochs=self.epochs, before=self.attack, forget_rows=rows)]

    def attack(self, ctx: Context) -> None:
        """Picture and label of every D_F example, and where each example's lie."""
        rows = ctx.data.rows("forget")
        found = [self.crossed(ctx, ctx.data.batch(rows, picked)) for picked in torch.arange(len(rows)).split(AT_ONCE)]
        ctx.state["pictures"], ctx.state["labels"] = (torch.cat(parts) for parts in zip(*found))
        place = torch.zeros(len(rows.examples), dtype=torch.long)
        place[rows.positions] = torch.arange(len(rows))
        ctx.state["place"] = place.to(ctx.device)

    def crossed(self, ctx: Context, forget: Batch) -> tuple[Tensor, Tensor]:
        """The pictures just beyond f_O's boundary, as the network reads them, and what f_O calls them."""
        black, white = span(ctx)
        start, true = (pixels(forget) - black) / (white - black), forget["labels"]
        found, labels, at = start.clone(), true.clone(), start.clone()
        radius = self.radius
        left = torch.arange(len(true), device=true.device)

        def look() -> tuple[Tensor, Tensor]:
            return ascent(ctx, ctx.original, picked(forget, left), black + at * (white - black))

        while len(left):
            for _ in range(self.steps):
                gradient, log_probs = ctx.meter.charge("attack", len(left), look)
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
        sources = batch.forget.nonzero().flatten()
        kept = torch.ones_like(batch.forget) if self.forget else ~batch.forget
        place = ctx.state["place"][batch["index"][sources]]
        return ctx.loss(joined(batch, kept, ctx.state["pictures"][place], ctx.state["labels"][place], sources))


def unit(gradient: Tensor) -> Tensor:
    """Every example's gradient, (B, C, H, W), at length 1; 0 stays 0."""
    return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-10).view(-1, 1, 1, 1)
