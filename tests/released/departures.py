"""What released code does otherwise, each with a name: an option of the method, a factor of the learning rate where a constant factor is all there is,
or a change of the run that no option offers, because nobody should want it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.methods import METHODS, Method
from mubench_ray.methods.pixels import ascent, pixels, span, with_pixels
from mubench_ray.tasks.base import Batch
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows
from mubench_ray.training.phase import Phase
from tests.released import cases
from tests.released.ours import Change, World


@dataclass(frozen=True)
class Departure:
    """What released code does otherwise: ``given`` hyperparameters, a factor of the learning rate, ``options`` of the trial, or a named ``change``."""

    name: str
    given: dict[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    change: Change | None = None
    options: dict[str, Any] = field(default_factory=dict)
    #: Whether it moves BatchNorm's statistics alone.
    statistics: bool = False


def configured(name: str, given: dict[str, Any], departures: tuple[Departure, ...] = ()) -> Method:
    """A method with hyperparameters and with those of departures."""
    for departure in departures:
        given = {**given, **departure.given}
    return METHODS.get(name).configure(given)


def changed(departures: tuple[Departure, ...]) -> Change:
    """All changes of departures, in turn."""

    def change(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
        for departure in departures:
            world.ctx.lr = world.ctx.learning_rate * departure.rate
            if departure.change:
                phases = departure.change(world, method, phases) or phases
        return phases

    return change


def labelled(labels: Tensor) -> Change:
    """D_F's labels are these, whatever would be drawn."""

    def change(world: World, method: Any, phases: list[Phase]) -> None:
        table = torch.cat([labels, torch.zeros(cases.RETAIN, dtype=torch.long)])
        world.ctx.relabel = lambda batch, **_: batch.replace(
            labels=torch.where(batch.forget, table[batch["index"]], batch["labels"])
        )

    return change


def forget_first(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """The forward pass of D_F comes before that of D_R."""

    def ordered(phase: Phase, first: int) -> Phase:
        def loss(ctx: Context, *batches: Batch) -> Tensor:
            for batch in (batches[first], batches[1 - first]):
                ctx.outputs(batch)
            return phase.loss(ctx, *batches)

        return replace(phase, loss=loss)

    return [ordered(phase, 1) for phase in phases]


def retain_first(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """The forward pass of D_R comes before that of D_F."""

    def loss_of(phase: Phase) -> Callable[..., Tensor]:
        def loss(ctx: Context, retain: Batch, forget: Batch) -> Tensor:
            ctx.outputs(retain)
            return phase.loss(ctx, retain, forget)

        return loss

    return [replace(phase, loss=loss_of(phase)) for phase in phases]


def forget_weighed_first(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """GradDiff with SuperLoss: D_F's losses enter tau before D_R's."""

    def loss(ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        left = ctx.loss(forget)
        return method.gamma * ctx.loss(retain) - left

    return [replace(phase, loss=loss) for phase in phases]


def retain_weighed_first(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """Bad-T with SuperLoss: D_R's divergences enter tau before D_F's."""

    def loss(ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        kept = ctx.divergence(retain, ctx.original, temperature=method.temperature)
        return (kept + ctx.divergence(forget, ctx.incompetent, temperature=method.temperature)) / 2

    return [replace(phase, loss=loss) for phase in phases]


def every_class_weighed_apart(world: World, method: Any, phases: list[Phase]) -> None:
    """SuperLoss weighs each class's term of a KL, not each example's sum of them, and the mean is over both."""
    ctx = world.ctx

    def kl(batch: Batch, teacher: Tensor, student: Tensor, factor: float = 1.0) -> Tensor:
        assert ctx.curriculum is not None
        return factor * ctx.curriculum(F.kl_div(student, teacher, log_target=True, reduction="none").flatten()).mean()

    ctx.kl = kl


def mean_in_the_sigmoid(world: World, method: Any, phases: list[Phase]) -> None:
    """Every example's log-likelihood is that of the batch: its mean, of texts that of all their tokens, times the example's own."""
    ctx = world.ctx
    each = ctx.log_likelihoods

    def of_the_batch(batch: Batch, of: nn.Module | None = None) -> Tensor:
        found, tokens = each(batch, of), ctx.task.tokens(batch)
        tokens = torch.ones_like(found) * tokens
        return found.sum() / tokens.sum() * tokens

    ctx.log_likelihoods = of_the_batch


def all_tokens_alike(world: World, method: Any, phases: list[Phase]) -> None:
    """The task's loss is the mean over a batch's tokens, not over its examples."""
    ctx = world.ctx

    def loss(batch: Batch) -> Tensor:
        tokens = ctx.task.tokens(batch)
        return (ctx.losses(batch) * tokens).sum() / tokens.sum()

    ctx.loss = loss


def every_place_counts(world: World, method: Any, phases: list[Phase]) -> None:
    """The KL of texts is the mean over all places of a batch: prompt, padding and the last one too, which predicts nothing."""
    ctx = world.ctx

    def divergence(batch: Batch, teacher: nn.Module, **_: Any) -> Tensor:
        ours, theirs = (ctx.outputs(batch, of).log_softmax(-1) for of in (None, teacher))
        rows, length = ours.shape[:2]
        return F.kl_div(ours, theirs, log_target=True, reduction="sum") / (rows * (length + 1))

    ctx.divergence = divergence


def first_batch_lost(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """The first four rows of D_F, a batch, do not count towards the mask."""
    forget = world.ctx.data.rows("forget")
    world.ctx.data.sets["rest"] = Rows(forget.examples, forget.positions[4:])
    return [replace(phases[0], on="rest"), *phases[1:]]


def whole_batches_squared(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """An importance is the square of a batch's mean gradient, D and D_F one batch each."""

    def square(name: str) -> Callable[[Context, Batch], None]:
        def update(ctx: Context, batch: Batch) -> None:
            ctx.state[name] = {key: g.square() for key, g in ctx.gradients().items()}
            ctx.state[f"{name} examples"] = 1

        return update

    mean = replace(phases[0], loss=lambda ctx, batch: ctx.losses(batch).mean(), batch_size=None, after=None)
    return [
        replace(mean, update=square("all")),
        replace(mean, on="forget", update=square("forget"), after=phases[0].after),
    ]


def one_step_after_the_other(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """The ascent is a step of its own, before that on D_R."""
    mask, unlearn = phases
    steps = round(unlearn.epochs)

    def rate(step: int) -> Any:
        share = (1 + torch.cos(torch.tensor(torch.pi * step / steps, dtype=torch.float64)).item()) / 2
        return replace(unlearn.optimizer, schedule="constant", lr=world.ctx.learning_rate * share, name=f"step {step}")

    def ascend(ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        loss = unlearn.loss(ctx, retain, forget)
        return loss - ctx.loss(retain)

    def descend(ctx: Context, retain: Batch) -> Tensor:
        return ctx.loss(retain)

    found = [mask]
    for step in range(steps):
        if step % method.period == 0:
            found.append(
                replace(unlearn, loss=ascend, epochs=1, optimizer=rate(step), kind=None, before=count_on(step))
            )
        found.append(replace(unlearn, on="retain", loss=descend, epochs=1, optimizer=rate(step), kind=None))
    return found


def count_on(step: int) -> Callable[[Context], None]:
    """Sets SFRon's own count of steps and of examples to those before a step."""

    def before(ctx: Context) -> None:
        ctx.state |= {"steps": step, "seen": step * cases.RETAIN}

    return before


def true_label_where_nothing_is_crossed(world: World, method: Any, phases: list[Phase]) -> list[Phase]:
    """The class beyond the step may be the true one."""
    labels = {}

    def loss(ctx: Context, forget: Batch) -> Tensor:
        other = method.nearest(ctx, forget)
        if not labels:
            black, white = span(ctx)
            gradient, _ = ascent(ctx, ctx.original, forget, pixels(forget))
            stepped = (pixels(forget) + method.bound * (white - black) * gradient.sign()).clamp(black, white)
            called = ctx.log_probs(with_pixels(forget, stepped), ctx.original).argmax(1)
            labels.update(
                zip(forget["index"].tolist(), torch.where(called == forget["labels"], called, other).tolist())
            )
        return ctx.loss(forget.replace(labels=torch.tensor([labels[i] for i in forget["index"].tolist()])))

    return [replace(phases[0], loss=loss)]
