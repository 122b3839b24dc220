"""UNSIR: impair with noise that f_O finds hardest under the forgotten labels, then repair."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    integer,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.methods.learning_rates import COMMON
from mubench_ray.methods.pixels import no_pixels, pixels, with_pixels
from mubench_ray.tasks.base import Batch, Task

#: Noise pictures that are made at a time.
AT_ONCE = 256


@method("unsir", title="UNSIR", cites="Tarun et al. 2021, arXiv 2111.08947")
class Unsir(Method):
    """Noise N_i for every D_F example, from N(0, 1), minimising -CE(f_O(N_i), y_i) + penalty |N_i|^2; impair: CE on D_R u {(N_i, y_i)}; repair: CE on D_R.

    Made for forgotten classes: of a random D_F it impairs every class that it holds, and the repair brings them back. Defaults are the released ones
    (40 steps of Adam at .1 on the noise; Adam at .02 to impair, at half of that to repair, one epoch each). There the noise is trained against f_O in
    train mode, whose BatchNorm statistics it moves, D_R is a sample of 1,000 a class and noise outnumbers it; here f_O stands still, D_R is whole, and
    there is as much noise as D_F. A budget shortens the noise's steps with the rest.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(
            0.02,
            1e-4,
            0.1,
            "its released notebook, Adam at .02 to impair (arXiv 2111.08947): two decades below and one above",
        ),
        "sgd": LearningRate(0.01, 1e-5, 0.1, COMMON),
    }

    impair_epochs: float = uniform(0.5, 3, default=1)
    repair_epochs: float = uniform(0.5, 3, default=1)
    noise_steps: int = integer(10, 100, default=40)
    noise_lr: float = log_uniform(0.01, 1.0, default=0.1)
    penalty: float = log_uniform(0.01, 1.0, default=0.1)
    repair_lr_factor: float = log_uniform(0.1, 10.0, default=0.5)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs pixels to make noise of."""
        return no_pixels(task)

    def phases(self, ctx: Context) -> list[Phase]:
        """Noise, impair, repair."""
        gentle = Optimizer("repair", lr=ctx.learning_rate * self.repair_lr_factor)
        return [
            Phase("noise", "forget", self.likely, epochs=self.noise_steps, batch_size=AT_ONCE, mode="eval", before=self.draw, update=self.harden),
            Phase("impair", "mixed", self.impair, epochs=self.impair_epochs),
            Phase("repair", "retain", self.repair, epochs=self.repair_epochs, optimizer=gentle),
        ]  # fmt: skip

    def draw(self, ctx: Context) -> None:
        """The noise of every D_F example as it starts, as the network reads it, and where each example's lies."""
        rows = ctx.data.rows("forget")
        one = pixels(ctx.data.batch(rows, torch.arange(1)))
        noise = torch.randn((len(rows), *one.shape[1:]), generator=ctx.generator("noise")).to(one)
        place = torch.zeros(len(rows.examples), dtype=torch.long)
        place[rows.positions] = torch.arange(len(rows))
        ctx.state |= {"noise": noise, "place": place.to(ctx.device), "mean": torch.zeros_like(noise)}
        ctx.state |= {"square": torch.zeros_like(noise), "steps": noise.new_zeros(len(rows), 1, 1, 1)}

    def likely(self, ctx: Context, forget: Batch) -> Tensor:
        """-CE(f_O(N), y) + penalty |N|^2."""
        noise = ctx.state["noise"][ctx.state["place"][forget["index"]]].requires_grad_()
        ctx.state["now"] = noise
        batch = with_pixels(forget, noise)
        losses = ctx.task.losses(ctx.task.outputs(ctx.original, batch), batch)
        return self.penalty * noise.square().flatten(1).sum(1).mean() - losses.mean()

    @torch.no_grad()
    def harden(self, ctx: Context, forget: Batch) -> None:
        """A step of Adam on the noise of these examples."""
        noise, state, place = ctx.state.pop("now"), ctx.state, ctx.state["place"][forget["index"]]
        assert noise.grad is not None
        state["steps"][place] += 1
        state["mean"][place] = torch.lerp(state["mean"][place], noise.grad, 0.1)
        state["square"][place] = torch.lerp(state["square"][place], noise.grad.square(), 0.001)
        mean, square = (
            state[name][place] / (1 - beta ** state["steps"][place])
            for name, beta in (("mean", 0.9), ("square", 0.999))
        )
        state["noise"][place] = noise - self.noise_lr * mean / (square.sqrt() + 1e-8)

    def impair(self, ctx: Context, batch: Batch) -> Tensor:
        """CE with noise in the place of D_F's pictures."""
        noise = ctx.state["noise"][ctx.state["place"][batch["index"]]]
        return ctx.loss(with_pixels(batch, torch.where(batch.forget.view(-1, 1, 1, 1), noise, pixels(batch))))

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)
