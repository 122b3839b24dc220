"""Boundary Shrink: every forgotten example is given to the class whose boundary is nearest."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, Method, Taxonomy, log_uniform, method, uniform
from mubench_ray.methods.learning_rates import BOUNDARY
from mubench_ray.methods.pixels import ascent, no_pixels, pixels, span, with_pixels
from mubench_ray.tasks.base import Batch, Task


@method("boundary_shrink", title="Boundary Shrink", cites="Chen et al. 2023, arXiv 2303.11570")
class BoundaryShrink(Method):
    """CE(f_U(x), y') on D_F; y' is f_O's first class other than y at x + bound sign(grad_x CE(f_O(x), y)).

    ``bound`` is of pixels in [0, 1], where the altered picture stays; its released default is taken, as is that of ``epochs`` (with SGD at 1e-5, momentum .9).
    The paper asks for the nearest but incorrect label. Released code takes y where the step crosses no boundary, and rounds to 1 / 255.
    """

    taxonomy = Taxonomy(corrupts="data", measured_by="f_O")
    learning_rates = BOUNDARY
    on = "forget"

    epochs: float = uniform(1, 10, default=10)
    bound: float = log_uniform(0.01, 1.0, default=0.1)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs pixels to step along."""
        return no_pixels(task)

    def loss(self, ctx: Context, forget: Batch) -> Tensor:
        """CE towards the nearest other class."""
        return ctx.loss(forget.replace(labels=self.nearest(ctx, forget)))

    def nearest(self, ctx: Context, forget: Batch) -> Tensor:
        """f_O's first class other than the true one beyond a step that raises its loss, (B,)."""
        black, white = span(ctx)
        gradient, _ = ascent(ctx, ctx.original, forget, pixels(forget))
        stepped = (pixels(forget) + self.bound * (white - black) * gradient.sign()).clamp(black, white)
        log_probs = ctx.log_probs(with_pixels(forget, stepped), ctx.original)
        return log_probs.scatter(1, forget["labels"][:, None], -float("inf")).argmax(1)
