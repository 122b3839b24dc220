"""How much each weight matters to D_F and to D_R, example by example, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mubench_ray.methods.base import Context, Phase
from mubench_ray.tasks.base import Batch

#: The importance of every parameter's entries, by name.
Importance = dict[str, Tensor]


def importance_phase(
    of: Callable[[Context, Batch], Tensor], size: Callable[[Tensor], Tensor], after: Callable[[Context], None]
) -> Phase:
    """One pass over D that adds up ``size`` of each single example's gradient of ``of``, apart for D_F and D_R; ``after`` takes them (``taken``)."""
    return Phase("importance", "mixed", of, batch_size=1, mode="eval", update=partial(_add, size=size), after=after)


def _add(ctx: Context, example: Batch, size: Callable[[Tensor], Tensor]) -> None:
    part = "forget" if bool(example.forget) else "retain"
    ctx.state[f"{part} examples"] = ctx.state.get(f"{part} examples", 0) + 1
    total = ctx.state.setdefault(f"{part} importance", {})
    for name, gradient in ctx.gradients().items():
        total[name] = total.get(name, 0) + size(gradient)


def taken(ctx: Context) -> tuple[Importance, Importance] | None:
    """(mean over D_F, mean over D_R) of what the pass has added up, which is forgotten, over the examples that the budget left it; None where that is none
    of either."""
    sums = [(ctx.state.pop(f"{p} importance", {}), ctx.state.pop(f"{p} examples", 0)) for p in ("forget", "retain")]
    forget, retain = ({name: total / count for name, total in added.items()} for added, count in sums)
    return (forget, retain) if forget and retain else None


def whole(ctx: Context, forget: Importance, retain: Importance) -> Importance:
    """The mean over D of what is given over its two parts."""
    f, r = len(ctx.data.rows("forget")), len(ctx.data.rows("retain"))
    return {name: (f * forget[name] + r * retain[name]) / (f + r) for name in forget}


@torch.no_grad()
def dampen(ctx: Context, part: Importance, everything: Importance, alpha: float, dampening: float) -> None:
    """Where an entry's importance to the part exceeds alpha times that to everything: theta *= min(dampening everything / part, 1) (Foster et al. 2024)."""
    for name, parameter in ctx.network.named_parameters():
        factor = (dampening * everything[name] / part[name]).clamp(max=1.0)
        parameter.copy_(torch.where(part[name] > alpha * everything[name], parameter * factor, parameter))
