"""Our side of the comparison: the fixed problems of ``cases`` as a context that the methods' own phases run on, through the loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mubench_ray.methods import Method
from mubench_ray.models.base import ImageModel, Model
from mubench_ray.tasks.base import Batch, Columns, ImageClassification
from mubench_ray.tasks.examples import Examples
from mubench_ray.tasks.sequence import SequenceTask
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.phase import Phase
from mubench_ray.training.superloss import SuperLoss
from mubench_ray.trial import Unlearning
from tests.released import cases

KEPT = json.loads((Path(__file__).parent / "authors.json").read_text())
#: What released code made of the fixed problems, by name.
RELEASED: dict[str, dict[str, Any]] = KEPT["released"]
#: Plain SGD on whole sets: one step a pass.
PLAIN: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 64}


class Pictures(ImageClassification):
    """The pictures of ``cases``."""

    name = "pictures_of_cases"
    classes, channels, size = cases.CLASSES, cases.CHANNELS, cases.SIZE
    mean, std = cases.MEAN, cases.STD

    def load(self) -> Any:
        """Nothing is loaded."""
        raise NotImplementedError


class Small(ImageModel):
    """The network of ``cases``; a fresh one is the incompetent teacher."""

    name = "small"

    def build(self, task: ImageClassification) -> nn.Module:
        """The network ``other``."""
        return cases.network("other").requires_grad_(True)


class Texts(SequenceTask):
    """The targets of ``cases``."""

    name = "targets_of_cases"

    def load(self) -> Any:
        """Nothing is loaded."""
        raise NotImplementedError


class Given(nn.Module):
    """A language model whose weights are the logits that it gives."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self.forget, self.retain = (nn.Parameter(cases.logits(name, of)) for name in ("forget", "retain"))

    def forward(self, rows: Tensor, use_cache: bool = False) -> Any:
        """Logits of some rows of D_F and D_R, one after the other."""
        return SimpleNamespace(logits=torch.cat([self.forget, self.retain])[rows])


class Giving(Model[Texts]):
    """Encodes places of ``cases``' targets."""

    name = "given"

    def __init__(self, even: bool) -> None:
        self.targets = torch.cat([cases.targets(name, even) for name in ("forget", "retain")])

    def build(self, task: Texts) -> nn.Module:
        """Logits of f_O."""
        return Given("original")

    def encode(self, task: Texts, columns: Columns) -> Columns:
        """The places and their targets."""
        return {"rows": columns["target"], "targets": self.targets[columns["target"]]}


class World:
    """A context on one of the fixed problems, f_O kept, the network moved on from it (``start``)."""

    def __init__(self, start: str = "moved", text: str | None = None, enlarged: int = 1) -> None:
        if text:
            sizes = [4, 3]
            places = torch.arange(7)
            columns = {"text": places, "target": places, "labels": 0 * places}
            task, model, lr = Texts(), Giving(text == "even"), 1.0
            original, moved, validation = Given("original"), Given(start), None
        else:
            found = cases.pictures()
            sizes = [cases.FORGET, cases.RETAIN]
            parts = [torch.cat(part) for part in zip(found["forget"], found["retain"])]
            columns = dict(zip(("image", "labels"), parts))
            columns["image"] = columns["image"].repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
            task, model, lr = Pictures(), Small(), cases.LR
            original, moved = cases.network("original").requires_grad_(True), cases.network(start)
            validation = Examples(dict(zip(("image", "labels"), found["validation"])), torch.arange(cases.VALIDATION))
        examples = Examples(columns, torch.arange(sum(sizes)))
        sets = dict(zip(("forget", "retain"), (Rows(examples, part) for part in torch.arange(sum(sizes)).split(sizes))))
        if validation is not None:
            sets["validation"] = Rows.all_of(validation)
        data = UnlearningData(task, model, sets)
        self.ctx = Context(task, model, original, data, 1, Meter(), lr)
        self.ctx.keep_original()
        original.load_state_dict(moved.state_dict())

    def batch(self, name: str, rows: slice = slice(None)) -> Batch:
        """A whole set, in its order."""
        held = self.ctx.data.rows(name)
        return self.ctx.data.batch(held, torch.arange(len(held))[rows])

    def run(
        self,
        method: Method,
        change: Change = lambda *_: None,
        **options: Any,
    ) -> list[float]:
        """The losses of the steps of the method's phases, as the loop runs them."""
        unlearning = Unlearning(**{**PLAIN, **options})
        if unlearning.superloss is not None:
            self.ctx.curriculum = SuperLoss(unlearning.superloss, unlearning.superloss_tau)
        phases = method.phases(self.ctx)
        phases = change(self, method, phases) or phases
        losses: list[float] = []

        def kept(phase: Phase) -> Phase:
            def loss(ctx: Context, *batches: Batch) -> Tensor:
                found = phase.loss(ctx, *batches)
                losses.append(float(found.detach()))
                return found

            return replace(phase, loss=loss)

        Loop(self.ctx, [kept(p) for p in phases], unlearning).run()
        return losses

    def vector(self) -> Tensor:
        """All parameters, then BatchNorm's statistics."""
        return torch.tensor(cases.vector(self.ctx.network), dtype=torch.float64)


#: Alters a run: given the world, the method and its phases, it gives other phases, or none where it changes the world alone.
Change = Callable[[World, Any, list[Phase]], list[Phase] | None]
