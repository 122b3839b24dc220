"""KDE: forget the first and the last layer, then distil the original back without D_F."""

from __future__ import annotations

from torch import Tensor, nn

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    choice,
    log_uniform,
    method,
    uniform,
)
from mubench_ray.methods.layers import first_layer, head, layer_state, no_head, reinitialise
from mubench_ray.methods.learning_rates import DEEP_UNLEARN, MEASURED
from mubench_ray.tasks.base import Batch


@method("kde", title="KDE", cites="NeurIPS 2023 unlearning challenge; as in Deep Unlearn, arXiv 2410.01276")
class KnowledgeDistillation(Method):
    """First and last layer drawn anew; KL_T(f_O || f_U) on D_V; then on D_R soft CE to f_O at T + CE + KL_T(f_O || f_U), cosine.

    ``form="scaled"``: both KL times T^2, which keeps their gradients' size at any T, and the soft CE at T = 1. Released code does neither. Its cosine moves on
    after every epoch (``advance``).

    It trains on D_V, which is also the selection set. The trial's learning rate is that of the second part (1e-3 in the paper); the warm-up's is a multiple
    of it (9e-4 / 1e-3).
    """

    taxonomy = Taxonomy(corrupts="model", retains="task loss + logits", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(0.01, 1e-4, 0.1, MEASURED),
        "sgd": LearningRate(1e-3, 1e-5, 0.1, DEEP_UNLEARN),
    }
    without_lora = "draws the first and the last layer anew, which LoRA keeps as they are"
    uses_validation = True
    version = 3

    warmup_epochs: float = uniform(1, 10, default=3)
    epochs: float = uniform(1, 10, default=3)
    temperature: float = log_uniform(0.5, 5.0, default=5.0)
    warmup_lr_factor: float = log_uniform(0.1, 10.0, default=0.9)
    form: str = choice("released", "scaled", default="released", searched=False)
    advance: str = choice("step", "epoch", default="step", searched=False, later=True)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a last layer that can be drawn anew alone."""
        reason = no_head(network)
        return f"kde draws the last layer anew; {reason}" if reason else None

    def phases(self, ctx: Context) -> list[Phase]:
        """Warm-up on D_V, distillation on D_R."""
        warm = Optimizer("warm up", lr=ctx.learning_rate * self.warmup_lr_factor)
        return [
            Phase("warm up", "validation", self.distance, epochs=self.warmup_epochs, optimizer=warm, before=self.reset),
            Phase(
                "distil",
                "retain",
                self.distil,
                epochs=self.epochs,
                optimizer=Optimizer(schedule="cosine", per_epoch=self.advance == "epoch"),
            ),
        ]

    def reset(self, ctx: Context) -> None:
        """Draw the first and the last layer anew."""
        for layer in (first_layer(ctx.network), head(ctx.network)):
            reinitialise(ctx, layer_state(ctx.network, layer), "kde")

    def distance(self, ctx: Context, batch: Batch) -> Tensor:
        """KL_T(f_O || f_U), T^2 times it where it is scaled."""
        T, factor = self.temperature, self.temperature**2 if self.form == "scaled" else 1.0
        return ctx.kl(batch, ctx.log_probs(batch, ctx.original, T), ctx.log_probs(batch, temperature=T), factor=factor)

    def distil(self, ctx: Context, retain: Batch) -> Tensor:
        """Soft CE + CE + KL."""
        T = 1.0 if self.form == "scaled" else self.temperature
        teacher = ctx.log_probs(retain, ctx.original, T)
        soft = -(teacher.exp() * ctx.log_probs(retain, temperature=T)).sum(-1)
        if soft.ndim == 2:  # where a token does not count both are uniform: a constant, but not to SuperLoss
            soft = soft * (teacher.amax(-1) > teacher.amin(-1))
        return ctx.mean(soft, ctx.task.tokens(retain)) + ctx.loss(retain) + self.distance(ctx, retain)
