"""What a model is: a name, the modality it serves, how to build its network for a task and how to encode a batch for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from mubench_ray.registry import Registry
from mubench_ray.tasks.base import Columns, Task


class Model(ABC):
    """An architecture at a scale. Instances are registered, so that one file holds all scales of a family."""

    name: str
    family: ClassVar[str]
    modality: ClassVar[str]
    citation: ClassVar[str]
    #: Where this architecture wants other training than the task's own (keys of Training).
    training: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def build(self, task: Task) -> nn.Module:
        """A freshly initialised network for the task; the caller has seeded torch."""

    @abstractmethod
    def encode(self, task: Task, columns: Columns) -> Columns:
        """Keyword arguments of the network's forward for these examples."""

    def refusal(self, task: type[Task]) -> str | None:
        """Why this model cannot serve a task, or None."""
        if task.modality != self.modality:
            return f"model {self.name} reads {self.modality}, task {task.name} is {task.modality}"
        return None


class ImageModel(Model):
    """Reads ``pixel_values``: pixels in [0, 1], normalised with the task's mean and standard deviation."""

    modality = "image"
    #: Side length that images are resized to, or None to take them as they are.
    image_size: int | None = None

    def encode(self, task: Task, columns: Columns) -> Columns:
        """``pixel_values``, float32 (B, C, H, W)."""
        image = columns["image"]
        mean = torch.tensor(task.mean, device=image.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(task.std, device=image.device).view(1, -1, 1, 1) * 255
        pixels = (image.float() - mean) / std
        if self.image_size and image.shape[-1] != self.image_size:
            pixels = F.interpolate(pixels, size=self.image_size, mode="bilinear", antialias=True)
        return {"pixel_values": pixels}


MODELS: Registry[Model] = Registry("model", "mubench_ray.models")


def register(name: str, model: Model, *aliases: str) -> Model:
    """Register a model instance under ``name``."""
    model.name = name
    MODELS.add(name, model, aliases)
    return model
