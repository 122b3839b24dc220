"""Decoding picture files, and the random crop and flip that originals are trained with."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mubench_ray.errors import DataError
from mubench_ray.tasks.files import read_bytes


def decode(path: Path, size: int, content: bytes | None = None) -> np.ndarray:
    """A picture as uint8 (3, size, size), resized with antialiasing; raises DataError naming a file that is damaged."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(read_bytes(path) if content is None else content)) as image:
            rgb = image.convert("RGB")
            if rgb.size != (size, size):
                rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture ({error}); fetch it again.") from error
    return np.asarray(rgb).transpose(2, 0, 1)


def random_flip(image: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture (B, C, H, W) mirrored left to right with probability one half."""
    flip = torch.rand(len(image), generator=generator) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), image.flip(-1), image)


def random_crop(image: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each picture (B, C, H, W) padded with black on all sides and cut back to its size at a random place."""
    rows, _, height, width = image.shape
    padded = F.pad(image, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, rows), generator=generator)
    down = (top.view(-1, 1) + torch.arange(height)).view(rows, 1, height, 1)
    across = (left.view(-1, 1) + torch.arange(width)).view(rows, 1, 1, width)
    return padded[torch.arange(rows).view(-1, 1, 1, 1), torch.arange(image.shape[1]).view(1, -1, 1, 1), down, across]
