"""What a plain-torch implementation of a method starts from: f_O, the data as tensors, the order of the batches, the random draws. No loop, no method.

A trial of the package and a reference share these four things and nothing else: the reference has its own loop, optimiser, schedule and teachers.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.engine.plan import make_plan
from mubench_ray.forget import split_forget
from mubench_ray.models import MODELS
from mubench_ray.randomness import derive, torch_generator
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.examples import limit
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.unlearning import prepare, unlearn

SUBSET, RATIO, SEED, CLASSES = 600, 10, 42, 10
#: Deep Unlearn's optimiser; MU-Bench's is Adam with batches of 32.
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32}
ADAM = {"optimizer": "adam", "batch_size": 32}


def trial_of(method: str, lr: float | None, options: dict, **hyperparameters) -> Trial:
    """The only trial of a suite on digits with a small CNN; nothing limits what it spends."""
    suite = make_suite(
        {
            "name": "reference",
            "tasks": {"name": "digits", "subset": SUBSET},
            "models": "cnn-small",
            "methods": {"name": method, **hyperparameters},
            "ratios": RATIO,
            "seeds": SEED,
            "lrs": lr or 1.0,
            "training": {"epochs": 4},
            "unlearning": options,
            "budget": {"flos": None},
        }
    )
    (trial,) = make_plan(suite).trials.values()
    return trial


def ours(trial: Trial, store: ArtifactStore) -> nn.Module:
    """f_U of the package."""
    prepared = prepare(trial, store)
    assert not unlearn(prepared.ctx, prepared.method, trial, lambda ctx: None)
    return prepared.ctx.network


@dataclass
class World:
    """Where a reference starts. ``x``, ``y`` are the training split; ``forget`` and ``retain`` are positions of it."""

    network: nn.Module
    x: Tensor
    y: Tensor
    forget: Tensor
    retain: Tensor
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, trial: Trial, store: ArtifactStore) -> World:
        """The world of a trial: its own copies of f_O and of the pixels."""
        task = TASKS.get("digits")()
        splits = limit(task.load(), SUBSET)
        network = MODELS.get("cnn-small").build(task)
        get_artifact(trial.original, store).load_into(network)
        drawn = split_forget(splits.train, trial.forget)
        pixels = [
            ((part.columns["image"].float() / 255 - task.mean[0]) / task.std[0], part.columns["labels"])
            for part in (splits.train, splits.validation, splits.test)
        ]
        return cls(network.train(), *pixels[0], drawn.forget, drawn.retain, pixels[1], pixels[2])

    def teacher(self) -> nn.Module:
        """f_O as it is now, in eval mode."""
        return copy.deepcopy(self.network).eval().requires_grad_(False)

    def fresh(self, stream: str) -> nn.Module:
        """A newly initialised network."""
        torch.manual_seed(derive("fresh", stream, SEED))
        return MODELS.get("cnn-small").build(TASKS.get("digits")())

    def batches(self, name: str, phase: int, epochs: float = 1, size: int = 32):
        """(epoch, positions) of shuffled passes over D_F, D_R, D_V or both of D; the ``phase``-th stretch of the run has its own order."""
        rows = self.rows(name)
        starts = list(range(0, len(rows), size))
        if len(starts) > 1 and size > 1 and starts[-1] == len(rows) - 1:
            starts.pop()  # one example left over goes with those before it
        steps = math.ceil(round(epochs * len(starts), 6))
        for epoch in range(math.ceil(steps / len(starts))):
            order = torch.randperm(len(rows), generator=torch_generator("batches", SEED, phase, name, epoch))
            for start, end in zip(starts, [*starts[1:], len(rows)]):
                if steps > 0:
                    yield epoch, rows[order[start:end]]
                steps -= 1

    def rows(self, name: str) -> Tensor:
        """Positions of a set."""
        if name == "validation":
            return torch.arange(len(self.validation[1]))
        return {"forget": self.forget, "retain": self.retain, "mixed": torch.cat([self.retain, self.forget])}[name]

    def paired(self, phase: int, epochs: float, driver: str):
        """(epoch, positions of D_R, positions of D_F); the shorter set is gone through again and again."""
        drivers = list(self.batches(driver, phase, epochs))
        other = "forget" if driver == "retain" else "retain"
        others = self.batches(other, phase, 1 + len(drivers))
        for (epoch, main), (_, beside) in zip(drivers, others):
            yield (epoch, main, beside) if driver == "retain" else (epoch, beside, main)

    def is_forgotten(self, positions: Tensor) -> Tensor:
        """Which of these positions belong to D_F."""
        return torch.isin(positions, self.forget)

    def wrong_labels(self, positions: Tensor, when: object, choices: int) -> Tensor:
        """Labels with those of D_F drawn among the ``choices`` that follow the true one (9: never it) or start with it (10)."""
        draw = torch.rand(len(self.y), generator=torch_generator("relabel", SEED, when))[positions]
        step = (draw * choices).long() + (1 if choices == CLASSES - 1 else 0)
        labels = self.y[positions]
        return torch.where(self.is_forgotten(positions), (labels + step) % CLASSES, labels)


def optimizer_of(options: dict, lr: float, parameters, decay: bool = True) -> torch.optim.Optimizer:
    """Torch's own optimiser with torch's own weight decay."""
    if options["optimizer"] == "adam":
        return torch.optim.Adam(parameters, lr=lr)
    wd = options["weight_decay"] if decay else 0.0
    return torch.optim.SGD(parameters, lr=lr, momentum=options["momentum"], weight_decay=wd)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def error(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of wrong predictions in eval mode."""
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        return float((network(x).argmax(1) != y).float().mean())


def distill(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of logits at a temperature."""
    return F.kl_div(F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean")


def accuracies(world: World, network: nn.Module) -> list[float]:
    """Accuracy on D_F, D_R and D_Test."""
    sets = [(world.x[rows], world.y[rows]) for rows in (world.forget, world.retain)]
    return [1 - error(network, *part) for part in (*sets, world.test)]
