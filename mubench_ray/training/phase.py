"""A phase of training or unlearning, as data: which batches, which loss, which parameters, which optimiser, for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

if TYPE_CHECKING:
    from mubench_ray.training.context import Context

#: ``retain``, ``forget``, ``validation``, ``train``: one shuffled pass over that set an epoch. ``mixed``: shuffled D_R u D_F.
#: ``paired``: a batch of each; ``driver`` says which set makes an epoch, the other is cycled.
Source = Literal["retain", "forget", "validation", "train", "mixed", "paired"]


@dataclass(frozen=True)
class Optimizer:
    """The optimiser of a phase; phases that name the same one share its state and its schedule.

    What is None is taken from the trial. A schedule runs from the first to the last step of all phases that share the optimiser:
    ``cosine`` and ``linear`` fall from ``lr`` to ``floor``, ``triangle`` rises linearly to ``lr`` and falls again, ``peak`` does so with one move at ``lr``
    and none at 0 (of five: 1/3, 2/3, 1, 2/3, 1/3); they move on every step, or ``per_epoch`` after every pass.
    """

    name: str = "main"
    kind: Literal["adam", "adamw", "sgd"] | None = None
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    schedule: Literal["constant", "cosine", "linear", "triangle", "peak"] = "constant"
    floor: float = 0.0
    per_epoch: bool = False


@dataclass(frozen=True)
class Phase:
    """One stretch of steps that are all alike.

    ``on`` is a source, or the name of a set that the method put into ``ctx.data.sets``.
    ``loss(ctx, batch)`` (``loss(ctx, retain, forget)`` when paired) returns a scalar. ``update(ctx, batch)`` replaces the optimiser's step: it
    finds the gradients in ``parameter.grad`` (SalUn accumulates them, Fisher squares them). ``parameters(ctx)`` names what is
    trained; everything else is frozen, and modules that are wholly frozen run in eval mode, so that their BatchNorm statistics stay. ``mode="eval"``
    keeps all BatchNorm statistics and dropout still. ``before`` and ``after`` change weights or remember state; ``after`` is not run if the budget ends
    the phase early (``Method.finish`` is).

    Where the budget does not reach for all that a method asks, every phase is shortened by one share, ``whole`` ones last. What that takes is found by trying a
    step of each on a copy of the context, hooks included: a hook leaves everything but the context as it is.

    Every example of a step is taken to cost what one of the first step does. Where steps are not alike ``kind(step)`` names the kind of each, and every kind's
    first is counted; where a D_F row is more work than a D_R row, ``forget_rows`` says as much as how many.
    """

    name: str
    on: Source | str
    loss: Callable[..., Tensor]
    epochs: float = 1.0
    driver: Literal["retain", "forget"] = "retain"
    optimizer: Optimizer = Optimizer()
    batch_size: int | None = None
    mode: Literal["train", "eval"] = "train"
    augment: bool = False
    parameters: Callable[[Context], Iterable[str]] | None = None
    update: Callable[..., None] | None = None
    before: Callable[[Context], None] | None = None
    after: Callable[[Context], None] | None = None
    whole: bool = False
    kind: Callable[[int], str] | None = None
    forget_rows: int = 1

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets that a step takes a batch of each."""
        return ("retain", "forget") if self.on == "paired" else (self.on,)

    def kind_of(self, step: int) -> str:
        """Under which name the meter keeps what an example of this step costs."""
        return self.name if self.kind is None else f"{self.name}: {self.kind(step)}"
