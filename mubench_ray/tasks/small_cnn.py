"""The small convolutional network that judges drawn pictures; the models ``cnn-*`` are it, too."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


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
