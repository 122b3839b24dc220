"""What a model is: a name, the modality it serves, how to build its network for a task and how to encode a batch for it."""

from __future__ import annotations

import copy
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from safetensors.torch import save_model
from torch import nn
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.models.flos import count_flos
from mubench_ray.models.places import FILES, state_file
from mubench_ray.models.processor import PictureProcessor
from mubench_ray.models.state import fill, read_state
from mubench_ray.registry import Registry
from mubench_ray.tasks.base import Batch, Columns, ImageClassification, Task

Served = TypeVar("Served", bound=Task)


class Model(ABC, Generic[Served]):
    """An architecture at a scale, for tasks of one kind (``Served``). Instances are registered, so that one file holds all scales of a family."""

    name: str
    family: ClassVar[str]
    modality: ClassVar[str]
    citation: str
    #: Raised where the network or what it reads changes an outcome; enters the ids of trials and artifacts once above 1.
    version: ClassVar[int] = 1
    #: Kinds of task that it has a head for.
    kinds: ClassVar[tuple[str, ...]] = ("classification",)
    #: Where this architecture wants other training than the task's own (keys of Training).
    training: ClassVar[dict[str, Any]] = {}
    #: Id of the published weights on the Hugging Face hub and the commit that is taken; None where there are none or none is pinned.
    hub: str | None = None
    revision: str | None = None
    #: The folder that published weights lie in, of a network that a folder describes; None where they are on the hub.
    published_at: str | None = None
    #: Name of the module that registered it; None for a model that is not registered.
    defined_in: str | None = None
    #: Device that FLOs are counted on: ``meta`` allocates nothing, but a network that looks at its inputs' values needs a real one.
    counted_on: ClassVar[str] = "meta"
    #: The file of weights that it is, in its own network; None where there is none.
    weights: Path | None = None
    #: Of a model that reads as an original does: that original, which ``finished`` is.
    original: Model[Served] | None = None

    @abstractmethod
    def build(self, task: Served) -> nn.Module:
        """A freshly initialised network for the task; the caller has seeded torch."""

    def initial(self, task: Served) -> nn.Module:
        """The network that training an original or a retrain starts from: ``build``, or published weights for ``pretrained()``."""
        return self.build(task) if self.weights is None else self._filled(task, self.weights)

    def finished(self, task: Served) -> nn.Module:
        """The checkpoint of ``pretrained()`` as it is, or of ``reading_as()``, to be an original; raises MubenchError where it is no whole network for the
        task."""
        return self.original.finished(task) if self.original is not None else self.initial(task)

    def pretrained(self, source: str | None = None, revision: str | None = None) -> Model[Served]:
        """This model starting from a checkpoint: a folder, a file of weights, a hub id, or the published weights; raises MubenchError where it cannot."""
        if source is None or (file := state_file(source)) is None:
            raise MubenchError(
                f"model {self.name} has no pretrained form{'' if source is None else f', and {source!r} is no file of weights'}."
            )
        return self.of_file(file)

    def of_file(self, file: Path) -> Model[Served]:
        """This model with the weights of a state dict of its own network."""
        model = copy.copy(self)
        model.weights = file
        return model

    def reading_as(self, source: str, revision: str | None, base: Model[Served] | None = None) -> Model[Served]:
        """This model as an original at ``source`` reads and is built: ``finished`` is that original, and training starts from random weights, or from those
        of ``base``, a model of ``pretrained()``."""
        model = copy.copy(base or self)
        model.original = model.pretrained(source, revision)
        return model

    def check_named(self, source: str | None, revision: str | None) -> None:
        """Raise MubenchError where ``pretrained`` would for the names alone, without a look at the network."""
        self.pretrained(source, revision)

    def check(self, task: Served, finished: bool = False) -> None:
        """Raise MubenchError where ``initial`` of a model of ``pretrained()``, or ``finished``, would, as far as files on this machine tell at once."""
        if self.original is not None and finished:
            self.original.check(task, finished)
        elif self.weights is not None:
            try:
                with torch.device("meta"):
                    fill(self.build(task), read_state(self.weights, headers=True), self._where(self.weights))
            except MubenchError:
                self._filled(task, self.weights)  # which may know older names

    def remarks(self, task: Served, finished: bool = False) -> list[str]:
        """What a plan says of a checkpoint on this machine: where the task does something else than its author did."""
        file = self.original.weights if self.original is not None and finished else self.weights
        if file is None:
            return []
        return [
            f"{file} is weights alone: its network is built and reads as {self.name} does here, and its classes are taken in {task.name}'s order"
        ]

    def save(self, network: nn.Module, task: Served, folder: Path) -> None:
        """Write a network of this model's, trained on a task that is loaded, so that ``original: FOLDER`` takes it: ``model.safetensors``, and all that it
        reads with."""
        folder.mkdir(parents=True, exist_ok=True)
        save_model(network, str(folder / "model.safetensors"))

    def _filled(self, task: Served, file: Path) -> nn.Module:
        return fill(self.build(task), read_state(file), self._where(file))

    def _where(self, file: Path) -> str:
        return f"model {self.name}: {str(file)!r}"

    def tried(self, task: Served) -> None:
        """Raise MubenchError where the network cannot read what the task gives, of a model that only trying tells; the plan asks once."""

    def version_for(self, task: type[Task], from_checkpoint: bool) -> int:
        """The version that decides an outcome on a task, from a checkpoint or from random weights; the same on every machine."""
        return self.version

    @abstractmethod
    def encode(self, task: Served, columns: Columns) -> Columns:
        """Keyword arguments of the network's forward for these examples."""

    def refusal(self, task: type[Task]) -> str | None:
        """Why this model cannot serve a task, or None."""
        if task.modality != self.modality:
            return f"model {self.name} reads {self.modality}, task {task.name} is {task.modality}"
        if task.kind not in self.kinds:
            return f"model {self.name} does {' and '.join(self.kinds)}, task {task.name} is {task.kind}"
        return None


class ImageModel(Model[ImageClassification]):
    """Reads ``pixel_values``: pixels in [0, 1], normalised with the task's mean and standard deviation."""

    modality = "image"
    #: Side length that images are resized to, or None to take them as they are.
    image_size: int | None = None
    #: Channels that the network reads, or None for the task's own; grey pictures are repeated.
    channels: int | None = None

    #: What a checkpoint's own processor does; None: the size above, and the task's mean and standard deviation.
    processor: PictureProcessor | None = None

    def encode(self, task: ImageClassification, columns: Columns) -> Columns:
        """``pixel_values``, float32 (B, C, H, W)."""
        image = columns["image"]
        if self.processor is not None:
            if self.channels and image.shape[1] != self.channels:
                image = image.expand(-1, self.channels, -1, -1)
            return {"pixel_values": self.processor(image)}
        mean = torch.tensor(task.mean, device=image.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(task.std, device=image.device).view(1, -1, 1, 1) * 255
        pixels = (image.float() - mean) / std
        if self.image_size and image.shape[-1] != self.image_size:
            pixels = F.interpolate(pixels, size=self.image_size, mode="bilinear", antialias=True)
        if self.channels and pixels.shape[1] != self.channels:
            pixels = pixels.expand(-1, self.channels, -1, -1)
        return {"pixel_values": pixels}


MODELS: Registry[Model] = Registry("model", "mubench_ray.models")


def register(name: str, model: Model, *aliases: str) -> Model:
    """Register a model instance under ``name``."""
    model.name, model.defined_in = name, sys._getframe(1).f_globals["__name__"]
    MODELS.add(name, model, aliases)
    return model


def get_model(name: str, pretrained: str | None = None, original: str | None = None) -> Model:
    """The registered model; with ``pretrained`` starting from a checkpoint: ``published``, a folder or file, or ``id@revision`` of the hub; with ``original``
    (the same, but for ``published``) reading as that one does, whose network ``finished`` is."""
    model = MODELS.get(name)
    base = None if pretrained is None else model.pretrained(*named(pretrained))
    if original is None:
        return base or model
    source, revision = named(original)
    return model.reading_as(str(source), revision, base)


def named(checkpoint: str) -> tuple[str | None, str | None]:
    """(source, revision) of a checkpoint as a suite names it; the source of ``published`` is None."""
    source, _, revision = checkpoint.partition("@")
    return None if source == "published" else source, revision or None


def check_checkpoint(
    name: str, checkpoint: str, task: Task, finished: bool = False, base: str | None = None
) -> list[str]:
    """Raise MubenchError where a model cannot start from a checkpoint that lies here (with ``finished``: be it, as an original beside a ``base``); else what
    there is to say of it.

    Of what lies elsewhere, on the hub or on the machines that will train, only the name is looked at.
    """
    if not (path := Path(checkpoint)).exists():
        if path.is_absolute() or path.suffix in FILES:
            return [f"{checkpoint} is not here: the first trial that needs it looks for it"]
        MODELS.get(name).check_named(*named(checkpoint))
        return []
    if finished and base is not None and not Path(base).exists() and state_file(checkpoint) is not None:
        return []  # its config is the base's, which is not here
    lies_here = base if base is not None and Path(base).exists() else None
    model = get_model(name, lies_here, checkpoint) if finished else get_model(name, checkpoint)
    model.check(task, finished)
    return model.remarks(task, finished)


def parameters(task: Task, model: Model) -> int:
    """Number of parameters of the model's network for a task; nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model.build(task).parameters())


def flos_per_sample(task: Task, model: Model, rows: int = 2) -> tuple[float, float]:
    """FLOs of one example's forward pass and of its whole training step (forward and backward).

    Counted on the meta device, where nothing is computed, for all models that can run there. No data is loaded.
    """
    with torch.device("meta"):
        columns = {name: column.to("meta") for name, column in task.blank(rows).items()}
        inputs = model.encode(task, columns)
    with torch.device(model.counted_on):
        network = model.build(task)
        columns, inputs = (
            {name: torch.zeros_like(column, device=model.counted_on) for name, column in part.items()}
            for part in (columns, inputs)
        )
        batch = Batch(columns, inputs, torch.zeros(rows, dtype=torch.bool))
        outputs, forward = count_flos(lambda: task.outputs(network, batch))
        _, backward = count_flos(lambda: task.losses(outputs, batch).mean().backward())
    return forward / rows, (forward + backward) / rows
