"""Image networks of torchvision by their name there, ``torchvision:resnet18``: ``pip install mubench_ray[torchvision]``."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

from torch import nn

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.models.base import MODELS, Model
from mubench_ray.models.own_network import OwnNetwork, OwnPictures, missing
from mubench_ray.models.state_dict import last_module
from mubench_ray.registry import Family
from mubench_ray.tasks.base import ImageClassification

#: Which of its published weights are taken, by a name that stays (``DEFAULT`` moves), and what they were trained with.
WEIGHTS = "IMAGENET1K_V1"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionNetwork(OwnPictures):
    """A network of torchvision with a head for the task's classes; ``pretrained: true`` starts from torchvision's IMAGENET1K_V1."""

    family = "torchvision"
    citation = "TorchVision maintainers 2016, https://github.com/pytorch/vision"
    published = False

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self.name = f"torchvision:{architecture}"
        # A vision transformer's positions are of one size.
        self.image_size = 224 if architecture.startswith(("vit_", "maxvit")) else None

    def made(self, task: ImageClassification) -> nn.Module:
        """torchvision's network."""
        return _models(self.name).get_model(self.architecture, weights=None, num_classes=task.classes)

    def initial(self, task: ImageClassification) -> nn.Module:
        """torchvision's weights with a new head where they are asked for, or those of a file."""
        network = super().initial(task)
        if self.published:
            theirs = _models(self.name).get_model(self.architecture, weights=WEIGHTS).state_dict()
            head = last_module(network)
            network.load_state_dict({k: v for k, v in theirs.items() if not k.startswith(f"{head}.")}, strict=False)
        return network

    def pretrained(self, source: str | None = None, revision: str | None = None) -> OwnNetwork[ImageClassification]:
        """torchvision's own weights, or those of a file."""
        if source is not None:
            return super().pretrained(source, revision)
        model = copy.copy(self)
        model.published, model.normalised = True, IMAGENET
        return model


def _models(name: str) -> Any:
    try:
        return import_module("torchvision.models")
    except (
        ImportError,
        RuntimeError,
        AttributeError,
    ) as error:  # over another build of torch its operators are not there
        raise missing(
            "torchvision", error if isinstance(error, ImportError) else ImportError(str(error)), f"model {name}"
        ) from error


def _open(name: str) -> tuple[str, Model]:
    models = _models(f"torchvision:{name}")
    known = models.list_models(module=models)
    if name not in known:
        raise MubenchError(
            f"model torchvision:{name}: torchvision has no classifier of this name. {did_you_mean(name, known)}"
        )
    return name, TorchvisionNetwork(name)


MODELS.add_family(
    Family("torchvision", "NAME", "Image networks of torchvision", TorchvisionNetwork.__doc__ or "", _open)
)
