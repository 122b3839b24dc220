"""Gradient difference: ascent on what is forgotten and, as heavy, descent on what is kept."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Taxonomy, choice, method, uniform
from mubench_ray.methods.learning_rates import COMMON
from mubench_ray.tasks.base import Batch


@method(
    "grad_diff",
    "gradient_difference",
    "gd",
    title="GradDiff",
    cites="Liu et al. 2022, arXiv 2203.12817; as in TOFU, arXiv 2401.06121",
)
class GradientDifference(Method):
    """-CE(D_F) + gamma CE(D_R), batches of D_F paired with as many rows of D_R; ``retain="kl"``: + gamma KL(f_O || f_U)(D_R) in its place.

    One to one, as TOFU and MU-Bench's code weigh it; NG+ weighs .95 to .05, goes over all of D_R and keeps BatchNorm still.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(
            5e-5,
            1e-6,
            1e-3,
            "TOFU, AdamW at 1e-5 for 7B parameters (arXiv 2401.06121); MU-Bench's grid and a decade below",
        ),
        "adamw": LearningRate(1e-5, 1e-6, 1e-3, "TOFU, AdamW at 1e-5 for 7B parameters (arXiv 2401.06121)"),
        "sgd": LearningRate(0.01, 1e-5, 0.1, COMMON),
    }
    on = "paired"
    driver = "forget"

    epochs: float = uniform(1, 10, default=5)
    gamma: float = uniform(0.0, 2.0, default=1.0)
    retain: str = choice("nll", "kl", default="nll", searched=False)

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """-CE(D_F) + gamma CE(D_R), or KL."""
        kept = ctx.divergence(retain, ctx.original) if self.retain == "kl" else ctx.loss(retain)
        return -ctx.loss(forget) + self.gamma * kept
