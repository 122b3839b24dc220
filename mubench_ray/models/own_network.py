"""Networks of other libraries and of one's own, taken as they are: their names of tensors, their forward, their weights from a file."""

from __future__ import annotations

import copy
import functools
import inspect
from abc import abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mubench_ray.errors import MubenchError, one_line
from mubench_ray.models.base import Model
from mubench_ray.models.labels import listed
from mubench_ray.models.state_dict import Weights, last_module, misfits, read_weights
from mubench_ray.tasks.base import Classification, Columns, ImageClassification, Task
from mubench_ray.trial import own_name

Served = TypeVar("Served", bound=Task)


class OwnNetwork(Model[Served]):
    """A network that is built elsewhere. A subclass says how it is ``made``, which takes memory only outside the meta device.

    A checkpoint is a file with its state dict. As an original it has to be the network, name for name and shape for shape; where training starts from it,
    its head, the module with the last parameters, may be another.
    """

    source: str | None = None

    @abstractmethod
    def made(self, task: Served) -> nn.Module:
        """The network with random weights."""

    def build(self, task: Served) -> nn.Module:
        """The network with random weights; the caller has seeded torch."""
        return self.made(task)

    def head(self, network: nn.Module) -> str:
        """The name of the module that gives the classes."""
        return last_module(network)

    def initial(self, task: Served) -> nn.Module:
        """The network with the checkpoint's weights, its head new where the checkpoint's is of another shape."""
        network = self.build(task)
        if self.source is None:
            return network
        weights = self._fitting(network, finished=False)
        own = network.state_dict()
        fitting = {
            name: tensor for name, tensor in weights.tensors.items() if name in own and own[name].shape == tensor.shape
        }
        network.load_state_dict(fitting, strict=False)
        return network

    def finished(self, task: Served) -> nn.Module:
        """The checkpoint as it is."""
        if self.original is not None:
            return self.original.finished(task)
        network = self.build(task)
        network.load_state_dict(self._fitting(network, finished=True, task=task).tensors, strict=False)
        return network

    def check(self, task: Served, finished: bool = False) -> None:
        """Raise MubenchError where the checkpoint's tensors are not the network's; the network is built without memory."""
        if finished and self.original is not None:
            return self.original.check(task, finished)
        if self.source is not None:
            with torch.device("meta"):
                network = self.build(task)
            self._fitting(network, finished, task)
        return None

    def _fitting(self, network: nn.Module, finished: bool, task: Task | None = None) -> Weights:
        if self.source is None:
            raise MubenchError(f"model {self.name} has no checkpoint: take its ``pretrained()``.")
        weights = read_weights(self.source, set(network.state_dict()))
        if faults := misfits(network, weights.tensors, None if finished else self.head(network)):
            classes = f" (of {task.classes} classes)" if isinstance(task, Classification) else ""
            raise MubenchError(
                f"model {self.label}: {self.source} is no state dict of this network{classes}: it {'; it '.join(faults)}."
            )
        return weights

    def tried(self, task: Served) -> None:
        """Raise MubenchError where the network cannot be built for the task, fails on what it gives, or gives something else than a logit a class."""
        inputs: Columns = {}
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("meta"):
                inputs = self.encode(task, {name: column.to("meta") for name, column in task.blank(2).items()})
                with torch.device(self.counted_on):
                    network = self.build(task).eval()
                    outputs = network(
                        **{name: torch.zeros_like(each, device=self.counted_on) for name, each in inputs.items()}
                    )
        except (MubenchError, MemoryError):
            raise
        except Exception as error:  # somebody's network
            given = ", ".join(f"{name} {tuple(each.shape)}" for name, each in inputs.items())
            raise MubenchError(f"model {self.label} cannot read {task.name} ({given}): {one_line(error)}") from error
        outputs = getattr(outputs, "logits", outputs)
        shape = tuple(getattr(outputs, "shape", ()))
        if isinstance(task, Classification) and shape != (2, task.classes):
            what = f"{type(outputs).__name__} {shape}"
            raise MubenchError(
                f"model {self.label} gives {what} of 2 examples of {task.name}, and not logits (2, {task.classes})."
            )

    def pretrained(self, source: str | None = None, revision: str | None = None) -> OwnNetwork[Served]:
        """This model from a file of weights; raises MubenchError where there is none."""
        if source is None:
            raise MubenchError(f"model {self.label} has no published weights; name a file of weights.")
        if not Path(source).exists():
            raise MubenchError(
                f"model {self.label}: {source!r} is not here: name a file that ends in .safetensors or .pth."
            )
        model = copy.copy(self)
        model.source = source
        return model

    @property
    def label(self) -> str:
        """What it is called in an error."""
        return own_name(self.name)

    def remarks(self, task: Served, finished: bool = False) -> list[str]:
        """Which order an original's outputs are taken to be in, which a file of weights does not say."""
        if not finished:
            return []
        if self.original is not None:
            return self.original.remarks(task, finished)
        names = listed(list(getattr(task, "class_names", ())))
        return [f"{self.source} names no classes: its outputs are taken in {own_name(task.name)}'s order {names}"]

    def found(self) -> str:
        """What was done to read its checkpoint, for the plan."""
        return "" if self.source is None else f"{Path(self.source).name}: {'; '.join(['read', *self._notes])}"

    @functools.cached_property
    def _notes(self) -> list[str]:
        return read_weights(self.source).notes if self.source is not None else []


class OwnPictures(OwnNetwork[ImageClassification]):
    """An image network whose forward takes pictures as its first argument, ``argument``."""

    modality = "image"
    argument = "x"
    #: What the network reads: a side, or None for the task's own, and channels.
    image_size: int | None = None
    channels: int | None = 3
    #: Mean and standard deviation that published weights were trained with, or None for the task's.
    normalised: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def remarks(self, task: ImageClassification, finished: bool = False) -> list[str]:
        """As of every network, and by what pictures are normalised where nobody says what the original was trained with."""
        said = super().remarks(task, finished)
        own = getattr(task, "options", None)
        if (
            said
            and self.original is None
            and self.normalised is None
            and own is not None
            and getattr(own, "mean", None) is None
        ):
            said.append(
                f"{own_name(task.name)} is normalised by its own mean and standard deviation: where its original was trained with others, say mean and std "
                "beside the task"
            )
        return said

    def encode(self, task: ImageClassification, columns: Columns) -> Columns:
        """Pixels in [0, 1], normalised, float32 (B, C, H, W)."""
        image = columns["image"]
        mean, std = self.normalised or (task.mean, task.std)
        pixels = image.float()
        if len(mean) != pixels.shape[1]:
            pixels = pixels.expand(-1, len(mean), -1, -1)
        mean, std = (torch.tensor(each, device=image.device).view(1, -1, 1, 1) * 255 for each in (mean, std))
        pixels = (pixels - mean) / std
        if self.image_size and pixels.shape[-1] != self.image_size:
            pixels = nn.functional.interpolate(pixels, size=self.image_size, mode="bilinear", antialias=True)
        if self.channels and pixels.shape[1] != self.channels:
            pixels = pixels.expand(-1, self.channels, -1, -1)
        return {self.argument: pixels}


def first_argument(network: nn.Module) -> str:
    """The name of the first argument of a network's forward; raises MubenchError where it has none that can be named."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameter in inspect.signature(network.forward).parameters.values():
        if parameter.kind in kinds:
            return parameter.name
    raise MubenchError(
        f"{type(network).__name__}.forward names no argument: it has to take the inputs by name, forward(self, x) say."
    )


def missing(family: str, error: ImportError, what: str) -> MubenchError:
    """What to say where the library of a family is not installed, or not to be imported."""
    package = (error.name or "").split(".")[0]
    if package == family:
        return MubenchError(f"{what} needs {family}: pip install mubench_ray[{family}].")
    reason = " ".join(str(error).split())
    return MubenchError(
        f"{what}: {family} cannot be imported here ({reason}). Install the build of torchvision that belongs to the torch that is here, from the same index."
    )


def arguments_of(factory: Any, offered: dict[str, Any]) -> dict[str, Any]:
    """Those of the offered keyword arguments that a factory takes by name."""
    taken = inspect.signature(factory).parameters
    return {name: value for name, value in offered.items() if name in taken}
