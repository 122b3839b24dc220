"""A bench to try methods on: made-up pictures, small networks, and data, context and meter that notice what is done with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.methods import Method
from mubench_ray.models import MODELS, Model
from mubench_ray.randomness import torch_generator
from mubench_ray.tasks.base import Batch, Card, ImageClassification, Splits, Task
from mubench_ray.tasks.examples import Examples
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.trial import ForgetSet, Training, Trial, Unlearning
from mubench_ray.trials.unlearning import unlearn

TRAIN, FORGET, VALIDATION = 48, 8, 16


class Pictures(ImageClassification):
    """Made-up 8 x 8 pictures of four classes; whoever loads it, and so could see D_Test, is found out."""

    name = "pictures"
    card = Card(
        "Made-up pictures",
        "drawn from a seed",
        "public domain",
        "none",
        "none",
        {"train": TRAIN, "validation": VALIDATION},
    )
    classes, channels, size = 4, 1, 8
    mean, std = (0.5,), (0.29,)
    training = Training(lr=1e-2, epochs=2, batch_size=8)

    def load(self) -> Splits:
        """Refused: a method gets its data from the context."""
        raise MubenchError("the method loaded the task's data itself; D_Test is part of it.")

    @classmethod
    def draw(cls, rows: int, stream: str) -> Examples:
        """Noise that is brighter in a row of the class's own."""
        generator = torch_generator("pictures", stream)
        labels = torch.arange(rows) % cls.classes
        image = torch.randint(0, 160, (rows, cls.channels, cls.size, cls.size), generator=generator)
        image[torch.arange(rows), :, 2 * labels] += 90
        return Examples({"image": image.to(torch.uint8), "labels": labels}, torch.arange(rows))


class WatchedData(UnlearningData):
    """Data that remembers the examples of D_F that were handed out as if they were not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.forgotten = set(self.sets["forget"].positions.tolist())
        self.leaked: set[int] = set()

    def batch(
        self, rows: Rows, picked: Tensor, forget: Tensor | None = None, augment: torch.Generator | None = None
    ) -> Batch:
        """The batch, looked at."""
        batch = super().batch(rows, picked, forget, augment)
        if rows.examples is self.sets["forget"].examples:
            self.leaked |= set(batch["index"][~batch.forget].tolist()) & self.forgotten
        return batch


class WatchedContext(Context):
    """A context that looks at every relabelled batch."""

    def __init__(
        self, task: Task, model: Model, network: nn.Module, data: WatchedData, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(task, model, network, data, *args, **kwargs)
        self.watched, self.relabelled, self.faults = data, 0, set()

    def relabel(self, batch: Batch, keep_true: bool = False, redraw: bool = False) -> Batch:
        """The relabelled batch, looked at."""
        new = super().relabel(batch, keep_true, redraw)
        self.relabelled += int(batch.forget.sum())
        changed = new["labels"] != batch["labels"]
        if (changed & ~batch.forget).any():
            self.faults.add("a D_R row was relabelled")
        if not keep_true and (~changed & batch.forget).any():
            self.faults.add("a D_F row kept its true label")
        return new


@dataclass
class Ran:
    """One run: the context it ended with, the weights before and after, and whether the budget cut it short."""

    ctx: WatchedContext
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    truncated: bool
    steps: list[int] = field(default_factory=list)


def bench(
    model: str, uses_validation: bool = True, seed: int = 1, cap_flos: float | None = None, lr: float | None = 1e-2
) -> WatchedContext:
    """A context over made-up pictures; D_F is every sixth of them."""
    task, architecture = Pictures(), MODELS.get(model)
    torch.manual_seed(0)
    network = architecture.build(task)
    train = Pictures.draw(TRAIN, "train")
    forget = torch.arange(FORGET) * (TRAIN // FORGET)
    keep = torch.ones(TRAIN, dtype=torch.bool)
    keep[forget] = False
    sets = {"forget": Rows(train, forget), "retain": Rows(train, keep.nonzero().flatten())}
    if uses_validation:
        sets["validation"] = Rows.all_of(Pictures.draw(VALIDATION, "validation"))
    data = WatchedData(task, architecture, sets)
    return WatchedContext(task, architecture, network, data, seed, Meter(cap_flos=cap_flos), lr)


def run(method: Method, ctx: WatchedContext, options: Unlearning | None = None) -> Ran:
    """Unlearn as a trial does."""
    before = snapshot(ctx)
    trial = Trial(task="pictures", model=ctx.model.name, method=method.name, forget=ForgetSet(ratio=100 * FORGET / TRAIN), seed=ctx.seed,
                  training_seed=0, lr=ctx.lr, training=Pictures.training, unlearning=options or Unlearning(batch_size=4))  # fmt: skip
    steps: list[int] = []
    truncated = unlearn(ctx, method, trial, lambda ctx: steps.append(ctx.meter.examples))
    return Ran(ctx, before, snapshot(ctx), truncated, steps)


def unweighed(method: Method, ctx: WatchedContext) -> list[str]:
    """The phases whose loss has a gradient left although the curriculum gives no example any weight: part of it goes past the curriculum."""
    ctx.keep_original()
    ctx.curriculum = lambda losses: 0 * losses
    found = {}

    def look(ctx: Context, *batches: Batch, phase: str) -> None:
        if any(p.grad is not None and p.grad.any() for p in ctx.network.parameters()):
            found[phase] = None

    # In place of the step, before weight decay enters the gradient; what a method itself does with gradients is no step down a loss.
    phases = [p if p.update else replace(p, update=partial(look, phase=p.name)) for p in method.phases(ctx)]
    Loop(ctx, phases, Unlearning(batch_size=4)).run()
    return list(found)


def snapshot(ctx: Context) -> dict[str, Tensor]:
    """Copies of all parameters and buffers of f_U."""
    return {name: tensor.clone() for name, tensor in ctx.network.state_dict().items()}
