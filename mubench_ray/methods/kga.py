"""KGA: align the knowledge gap on D_F with that of a model that never saw some other data."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mubench_ray.methods.base import Context, LearningRate, Method, Phase, Taxonomy, method, uniform
from mubench_ray.methods.learning_rates import COMMON, MEASURED
from mubench_ray.tasks.base import Batch


@method("kga", title="KGA", cites="Wang et al. 2023, arXiv 2305.06535")
class KnowledgeGapAlignment(Method):
    """|KL(f_U || A_f)(D_F) - KL(f_O || A_n)(D_n)| + alpha KL(f_O || f_U)(D_R), with A_f and A_n trained from scratch on D_F and on D_n alone.

    The extra data D_n, which f_O must never have seen, is D_V: also the selection set. Both helpers are trained with Adam at the trial's learning rate, on the
    clock; the gap on D_n does not depend on f_U and is measured once. The paper's early stop (gap below a threshold) is the budget's business.
    """

    taxonomy = Taxonomy(corrupts="model", retains="logits", measured_by="f_O, A_f, A_n")
    learning_rates = {
        "adam": LearningRate(3e-4, 1e-5, 0.01, MEASURED),
        "sgd": LearningRate(0.01, 1e-5, 0.1, COMMON),
    }
    without_superloss = "aligns a mean over D_F with one over D_n, of which no example has a loss of its own"
    uses_validation = True
    version = 3

    helper_epochs: float = uniform(1, 10, default=5)
    epochs: float = uniform(1, 10, default=5)
    alpha: float = uniform(0.0, 1.0, default=0.1)

    def phases(self, ctx: Context) -> list[Phase]:
        """Train A_f on D_F and A_n on D_n, measure the gap on D_n, align."""
        helpers = [
            Phase(
                f"helper {name}", name, partial(self.helper_loss, name=name), epochs=self.helper_epochs, before=partial(self.begin, name=name),
                update=partial(self.helper_step, name=name), after=partial(self.freeze, name=name),
            )
            for name in ("forget", "validation")
        ]  # fmt: skip
        return [
            *helpers,
            Phase("align", "paired", self.align, epochs=self.epochs, driver="forget", before=self.measure),
        ]

    def begin(self, ctx: Context, name: str) -> None:
        """A fresh helper and its optimiser."""
        ctx.helper(f"kga {name}")

    def helper_loss(self, ctx: Context, batch: Batch, name: str) -> Tensor:
        """CE of the helper."""
        helper = ctx.helper(f"kga {name}")
        helper.optimizer.zero_grad()
        return ctx.task.losses(ctx.task.outputs(helper.network, batch), batch).mean()

    def helper_step(self, ctx: Context, batch: Batch, name: str) -> None:
        """A step of the helper; f_U stays."""
        ctx.helper(f"kga {name}").optimizer.step()

    def freeze(self, ctx: Context, name: str) -> None:
        """The helper as a teacher."""
        ctx.helper(f"kga {name}").freeze()

    @torch.no_grad()
    def measure(self, ctx: Context) -> None:
        """KL(f_O || A_n), mean over D_n."""
        rows = ctx.data.rows("validation")
        helper, total = ctx.helper("kga validation").network, 0.0
        for picked in torch.arange(len(rows)).split(min(256, ctx.task.evaluation_batch)):
            batch = ctx.data.batch(rows, picked)
            total += len(batch) * float(
                ctx.meter.charge("gap", len(batch), lambda batch=batch: gap(ctx, batch, ctx.original, helper))
            )
        ctx.state["gap"] = total / len(rows)

    def align(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """|gap(D_F) - gap(D_n)| + alpha KL(f_O || f_U)(D_R)."""
        helper = ctx.helper("kga forget").network
        aligned = (gap(ctx, forget, None, helper) - ctx.state["gap"]).abs()
        return aligned + self.alpha * gap(ctx, retain, ctx.original, None)


def gap(ctx: Context, batch: Batch, first: nn.Module | None, second: nn.Module | None) -> Tensor:
    """KL(first || second) on a batch; None stands for f_U."""
    return ctx.divergence(batch, first, second)
