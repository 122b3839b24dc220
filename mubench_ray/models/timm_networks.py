"""Image networks of timm by their name there, ``timm:resnet18``: ``pip install mubench_ray[timm]``."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

from torch import nn

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.models.base import MODELS, Model
from mubench_ray.models.own_network import OwnNetwork, OwnPictures, missing
from mubench_ray.registry import Family
from mubench_ray.tasks.base import ImageClassification


class TimmNetwork(OwnPictures):
    """A network of timm with a head for the task's classes; ``pretrained: true`` starts from timm's weights, normalised as they were trained."""

    family = "timm"
    citation = "Wightman 2019, doi:10.5281/zenodo.4414861"
    published = False

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self.name = f"timm:{architecture}"
        about = _timm(self.name).get_pretrained_cfg(architecture.partition(".")[0], allow_unregistered=True)
        self.about: dict[str, Any] = about.to_dict() if about else {}
        # Where positions are learnt the pictures have to be of that size; elsewhere they are taken as they are.
        self.image_size = self.about["input_size"][-1] if self.about.get("fixed_input_size") else None

    def made(self, task: ImageClassification) -> nn.Module:
        """timm's network, three channels."""
        return _timm(self.name).create_model(self.architecture, pretrained=self.published, num_classes=task.classes)

    def build(self, task: ImageClassification) -> nn.Module:
        """The network with random weights."""
        return _timm(self.name).create_model(self.architecture, pretrained=False, num_classes=task.classes)

    def initial(self, task: ImageClassification) -> nn.Module:
        """timm's weights where they are asked for, or those of a file."""
        return self.made(task) if self.published else super().initial(task)

    def head(self, network: nn.Module) -> str:
        """As timm says."""
        told = self.about.get("classifier")
        return told if isinstance(told, str) else super().head(network)

    def pretrained(self, source: str | None = None, revision: str | None = None) -> OwnNetwork[ImageClassification]:
        """timm's own weights, or those of a file."""
        if source is not None:
            return super().pretrained(source, revision)
        if "." not in self.architecture:
            tag = self.about.get("tag") or "TAG"
            raise MubenchError(
                f"model {self.name}: which of timm's weights? Name them, so that everyone loads the same: {self.name}.{tag}."
            )
        model = copy.copy(self)
        model.published = True
        if {"mean", "std"} <= self.about.keys():
            model.normalised = tuple(self.about["mean"]), tuple(self.about["std"])
        return model


def _timm(name: str) -> Any:
    try:
        return import_module("timm.models")
    except (
        ImportError,
        RuntimeError,
        AttributeError,
    ) as error:  # torchvision, which it imports, over another build of torch
        raise missing(
            "timm",
            error if isinstance(error, ImportError) else ImportError(str(error), name="torchvision"),
            f"model {name}",
        ) from error


def _open(name: str) -> tuple[str, Model]:
    models = _timm(f"timm:{name}")
    architecture = name.partition(".")[0]
    if not models.is_model(architecture):
        raise MubenchError(
            f"model timm:{name}: timm has no network of this name. {did_you_mean(architecture, models.list_models())[:300]}"
        )
    return name, TimmNetwork(name)


MODELS.add_family(Family("timm", "NAME", "Image networks of timm", TimmNetwork.__doc__ or "", _open))
