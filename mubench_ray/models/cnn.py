"""A small convolutional network for images of 8 to 32 pixels."""

from __future__ import annotations

from torch import nn

from mubench_ray.models.base import ImageModel, register
from mubench_ray.tasks.base import ImageClassification
from mubench_ray.tasks.small_cnn import SmallCNN


class CNN(ImageModel):
    """SmallCNN at a width."""

    family = "cnn"
    citation = "LeCun et al. 1998, doi:10.1109/5.726791 (with BatchNorm)"

    def __init__(self, width: int) -> None:
        self.width = width

    def build(self, task: ImageClassification) -> nn.Module:
        """A network for the task's channels and classes."""
        return SmallCNN(task.channels, task.classes, self.width)


register("cnn-small", CNN(width=16), "cnn", "small-cnn")
