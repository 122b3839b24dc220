"""JiT: forgotten pictures are to look to f_U like their noisy neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Phase,
    Taxonomy,
    integer,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.methods.pixels import no_pixels, pixels, with_pixels
from mubench_ray.tasks.base import Batch, Task


@method("jit", "jit_unlearning", title="JiT", cites="Foster et al. 2024, arXiv 2402.01401")
class JustInTime(Method):
    """Mean over ``samples`` neighbours x' = clamp(x + N(0, sigma^2)) of |f_U(x) - f_U(x')| / |x - x'| on D_F, f the logits: zero-shot, D_R plays no part.

    x as the network reads it, clamped to the least and largest pixel of its batch; f_U(x') is a constant, as in released code. One pass, 25 samples are
    released; sigma and the learning rate (plain SGD, of a batch's sum; here its mean) are searched for every problem: .5 and .1 for a ViT, .01 and
    3e-4 for a VGG where D_F is random. f_U is in eval mode, so that no statistic follows noise; released code does not say.
    """

    taxonomy = Taxonomy(corrupts="representation")
    learning_rates = {
        "adam": LearningRate(1e-4, 1e-5, 0.01, "no paper runs it so: the generic range of Adam (docs/add-a-method.md)"),
        "sgd": LearningRate(
            3e-4,
            1e-4,
            2.0,
            "its released code, plain SGD: 3e-4 for a VGG where D_F is random, .1 for a ViT, 1.5 at most (arXiv 2402.01401)",
        ),
    }

    epochs: float = uniform(1, 5, default=1)
    samples: int = integer(1, 50, default=25)
    sigma: float = log_uniform(0.01, 2.0, default=0.5)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs pixels to add noise to."""
        return no_pixels(task)

    def phases(self, ctx: Context) -> list[Phase]:
        """One phase, in eval mode."""
        return [Phase("smooth", "forget", self.loss, epochs=self.epochs, mode="eval")]

    def loss(self, ctx: Context, forget: Batch) -> Tensor:
        """How steep f_U is around each example."""
        here, x = ctx.outputs(forget).float(), pixels(forget)
        ctx.state["steps"] = ctx.state.get("steps", 0) + 1
        generator = ctx.generator("neighbours", ctx.state["steps"])
        steep = torch.zeros_like(here[:, 0])
        for _ in range(self.samples):
            noise = self.sigma * torch.randn(x.shape, generator=generator).to(x)
            neighbour = (x + noise).clamp(x.min(), x.max())
            with torch.no_grad():
                there = ctx.outputs(with_pixels(forget, neighbour)).float()
            steep = steep + (here - there).norm(dim=1) / (x - neighbour).flatten(1).norm(dim=1)
        return ctx.mean(steep / self.samples)
