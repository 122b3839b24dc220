"""TinyViT (Wu et al. 2022), which transformers does not have: convolutions first, then windowed attention with a local convolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.models.base import ImageModel, register
from mubench_ray.tasks.base import ImageClassification


class ConvNorm(nn.Sequential):
    """A convolution without bias, then BatchNorm."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(after)
        )


class MBConv(nn.Module):
    """Inverted bottleneck: expand by 4, depthwise 3 x 3, project back, add."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.body = nn.Sequential(
            ConvNorm(width, inner),
            nn.GELU(),
            ConvNorm(inner, inner, 3, groups=inner),
            nn.GELU(),
            ConvNorm(inner, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return F.gelu(x + self.body(x))


class Merge(nn.Sequential):
    """Halve the side and change the width: 1 x 1, depthwise 3 x 3 with stride 2, 1 x 1."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            ConvNorm(before, after),
            nn.GELU(),
            ConvNorm(after, after, 3, 2, groups=after),
            nn.GELU(),
            ConvNorm(after, after),
        )


class WindowAttention(nn.Module):
    """Attention within windows of ``side`` x ``side``, with a learned bias for every distance (|dy|, |dx|) and head."""

    distance: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, side * side))
        # On the CPU even while the network is built on the meta device: it is a constant, not a weight.
        place = torch.cartesian_prod(torch.arange(side, device="cpu"), torch.arange(side, device="cpu"))
        distance = (place[:, None] - place[None]).abs()
        self.register_buffer("distance", distance[..., 0] * side + distance[..., 1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape; a picture that windows do not tile is padded for the while."""
        rows, height, width, channels = x.shape
        side = self.side
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        down, across = x.shape[1] // side, x.shape[2] // side
        tokens = x.view(rows, down, side, across, side, channels).transpose(2, 3).reshape(-1, side * side, channels)
        query, key, value = (
            self.qkv(self.norm(tokens)).view(len(tokens), side * side, self.heads, -1).transpose(1, 2).chunk(3, -1)
        )
        bias = self.bias[:, self.distance.to(self.bias.device)]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        tokens = self.out(mixed.transpose(1, 2).reshape(tokens.shape))
        x = (
            tokens.view(rows, down, across, side, side, channels)
            .transpose(2, 3)
            .reshape(rows, down * side, across * side, channels)
        )
        return x[:, :height, :width]


class Block(nn.Module):
    """Window attention, a depthwise 3 x 3 convolution, an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attention = WindowAttention(width, heads, window)
        self.local = ConvNorm(width, width, 3, groups=width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = x + self.attention(x)
        x = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)


class TinyViTNetwork(nn.Module):
    """Stem of stride 4, a stage of MBConv, three stages of attention blocks, mean pooling, LayerNorm and a linear head."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: int,
        widths: list[int],
        depths: list[int],
        heads: list[int],
        windows: list[int],
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(channels, widths[0] // 2, 3, 2), nn.GELU(), ConvNorm(widths[0] // 2, widths[0], 3, 2)
        )
        side = -(-size // 4)
        stages: list[nn.Module] = [MBConv(widths[0]) for _ in range(depths[0])]
        for (before, after), depth, head, window in zip(pairwise(widths), depths[1:], heads[1:], windows[1:]):
            side = -(-side // 2)
            stages += [Merge(before, after), *(Block(after, head, min(window, side)) for _ in range(depth))]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        return self.head(self.norm(self.stages(self.stem(pixel_values)).mean((-2, -1))))


class TinyViT(ImageModel):
    """TinyViT at the task's own image size; windows are never larger than a stage's picture."""

    family = "tinyvit"
    citation = "Wu et al. 2022, arXiv 2207.10666"

    def __init__(self, widths: list[int], depths: list[int], heads: list[int], windows: list[int]) -> None:
        self.widths, self.depths, self.heads, self.windows = widths, depths, heads, windows

    def build(self, task: ImageClassification) -> nn.Module:
        """A network for the task's size, channels and classes."""
        return TinyViTNetwork(
            task.channels, task.classes, task.size, self.widths, self.depths, self.heads, self.windows
        )


register("tinyvit-tiny", TinyViT([16, 16, 32], [1, 1, 1], [1, 2, 2], [4, 4, 4]))
register(
    "tinyvit-5m", TinyViT([64, 128, 160, 320], [2, 2, 6, 2], [2, 4, 5, 10], [7, 7, 14, 7]), "tinyvit", "tiny-vit-5m"
)
register("tinyvit-11m", TinyViT([64, 128, 256, 448], [2, 2, 6, 2], [2, 4, 8, 14], [7, 7, 14, 7]), "tiny-vit-11m")
register("tinyvit-21m", TinyViT([96, 192, 384, 576], [2, 2, 6, 2], [3, 6, 12, 18], [7, 7, 14, 7]), "tiny-vit-21m")
