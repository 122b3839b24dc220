"""UNSIR: impair with noise that f_O finds hardest under the forgotten labels, then repair."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mubench_ray.methods.base import Context, Method, Optimizer, Phase, Taxonomy, integer, log_uniform, method, uniform
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
    there is as much noise as D_F.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")

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
        """Noise and impair, then repair."""
        gentle = Optimizer("repair", lr=ctx.learning_rate * self.repair_lr_factor)
        return [
            Phase("impair", "mixed", self.impair, epochs=self.impair_epochs, before=self.make_noise),
            Phase("repair", "retain", self.repair, epochs=self.repair_epochs, optimizer=gentle),
        ]

    def make_noise(self, ctx: Context) -> None:
        """The noise of every D_F example, and where each example's lies."""
        rows, generator = ctx.data.rows("forget"), ctx.generator("noise")
        batches = [ctx.data.batch(rows, picked) for picked in torch.arange(len(rows)).split(AT_ONCE)]
        ctx.state["noise"] = torch.cat([self.hardest(ctx, batch, generator) for batch in batches])
        place = torch.zeros(len(rows.examples), dtype=torch.long)
        place[rows.positions] = torch.arange(len(rows))
        ctx.state["place"] = place.to(ctx.device)

    def hardest(self, ctx: Context, forget: Batch, generator: torch.Generator) -> Tensor:
        """Noise that f_O is worst at calling by these labels, as the network reads it, (B, C, H, W)."""
        noise = torch.randn(pixels(forget).shape, generator=generator).to(pixels(forget)).requires_grad_()
        optimizer = torch.optim.Adam([noise], lr=self.noise_lr)
        for _ in range(self.noise_steps):
            ctx.meter.charge("noise", len(forget), self.step(ctx, forget, noise, optimizer))
        return noise.detach()

    def step(self, ctx: Context, forget: Batch, noise: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        """One step of the noise."""

        def work() -> None:
            batch = with_pixels(forget, noise)
            likely = ctx.task.losses(ctx.task.outputs(ctx.original, batch), batch).mean()
            optimizer.zero_grad()
            (self.penalty * noise.square().flatten(1).sum(1).mean() - likely).backward()
            optimizer.step()

        return work

    def impair(self, ctx: Context, batch: Batch) -> Tensor:
        """CE with noise in the place of D_F's pictures."""
        noise = ctx.state["noise"][ctx.state["place"][batch["index"]]]
        return ctx.loss(with_pixels(batch, torch.where(batch.forget.view(-1, 1, 1, 1), noise, pixels(batch))))

    def repair(self, ctx: Context, retain: Batch) -> Tensor:
        """CE(D_R)."""
        return ctx.loss(retain)
