"""Bad-T: an incompetent teacher for what is forgotten, the original for what is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.methods.base import (
    Context,
    LearningRate,
    Method,
    Phase,
    Taxonomy,
    choice,
    log_uniform,
    method,
    share,
    uniform,
)
from mubench_ray.methods.learning_rates import COMMON
from mubench_ray.tasks.base import Batch
from mubench_ray.training.data import Rows


@method("bad_t", "bad-t", "badteacher", "bt", title="Bad-T", cites="Chundawat et al. 2023, arXiv 2205.08096")
class BadTeacher(Method):
    """KL to a randomly initialised teacher of the same architecture on D_F, KL to f_O on a sample of D_R.

    ``form="paired"`` (MU-Bench): batches of D_F paired with as many rows of D_R, both terms weighing one half. ``form="mixed"`` (upstream, and BT of Deep
    Unlearn): shuffled passes over D_F and the share ``retain_share`` of D_R, every row weighing the same; upstream takes .3, Deep Unlearn all.
    The divergences are summed over classes and averaged over rows, those of sequences over tokens too; released code averages over classes as well, a
    gradient smaller by their number.
    """

    taxonomy = Taxonomy(corrupts="model", retains="logits", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(
            1e-4,
            1e-5,
            0.1,
            "its authors' notebook, Adam at 1e-4 (arXiv 2205.08096); Deep Unlearn's released code, Adam at .01, searched from 1e-5 to 1e-1",
        ),
        "sgd": LearningRate(0.01, 1e-5, 0.1, COMMON),
    }

    sequence_version = superloss_version = 2

    epochs: float = uniform(1, 10, default=10)
    temperature: float = log_uniform(0.1, 5.0, default=1.0)
    form: str = choice("paired", "mixed", default="paired")
    retain_share: float = share(0.0, 1.0, default=1.0)

    @property
    def draws_sets(self) -> bool:
        """A part of D_R."""
        return self.form == "mixed" and self.retain_share < 1

    def phases(self, ctx: Context) -> list[Phase]:
        """Passes over D_F and a sample of D_R."""
        if self.form == "paired":
            return [Phase("bad_t", "paired", self.loss, epochs=self.epochs, driver="forget")]
        retain = ctx.data.rows("retain")
        sample = torch.randperm(len(retain), generator=ctx.generator("bad_t"))[
            : max(1, round(self.retain_share * len(retain)))
        ]
        ctx.data.sets["retain"] = Rows(retain.examples, retain.positions[sample])
        return [Phase("bad_t", "mixed", self.mixed, epochs=self.epochs)]

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """Mean of KL(incompetent || f_U) on D_F and KL(f_O || f_U) on D_R."""
        T = self.temperature
        corrupt = ctx.divergence(forget, ctx.incompetent, temperature=T)
        keep = ctx.divergence(retain, ctx.original, temperature=T)
        return (corrupt + keep) / 2

    def mixed(self, ctx: Context, batch: Batch) -> Tensor:
        """Mean over rows of KL(incompetent || f_U) where they belong to D_F, else of KL(f_O || f_U)."""
        T = self.temperature
        incompetent, original = ctx.log_probs(batch, ctx.incompetent, T), ctx.log_probs(batch, ctx.original, T)
        member = batch.forget.view(-1, *[1] * (original.dim() - 1))
        teacher = torch.where(member, incompetent, original)
        return ctx.kl(batch, teacher, ctx.log_probs(batch, temperature=T))
