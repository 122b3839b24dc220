"""A small convolutional network for images of 8 to 32 pixels."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mubench_ray.models.base import ImageModel, register
from mubench_ray.tasks.base import Task


class SmallCNN(nn.Module):
    """Three 3 x 3 convolutions with BatchNorm, global average pooling, a linear head."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        sizes = [channels, width, 2 * width, 2 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=1 if stage == 0 else 2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for stage, (before, after) in enumerate(pairwise(sizes))
            )
        )
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        return self.head(self.stages(pixel_values).mean((-2, -1)))


class CNN(ImageModel):
    """SmallCNN at a width."""

    family = "cnn"
    citation = "LeCun et al. 1998, doi:10.1109/5.726791 (with BatchNorm)"

    def __init__(self, width: int) -> None:
        self.width = width

    def build(self, task: Task) -> nn.Module:
        """A network for the task's channels and classes."""
        return SmallCNN(task.channels, task.classes, self.width)


register("cnn-small", CNN(width=16), "cnn", "small-cnn")
