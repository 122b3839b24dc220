"""Pictures of one's own: a folder a class, or an index."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import ImageClassification
from mubench_ray.tasks.examples import Splits
from mubench_ray.tasks.files import read_bytes
from mubench_ray.tasks.own import OwnOptions, own
from mubench_ray.tasks.own_files import OwnFiles, of_pixels
from mubench_ray.tasks.pictures import decode

#: Pictures whose size is looked at, and the largest side that is taken unasked: what most published networks read.
SIZED, LARGEST = 100, 224


class PictureOptions(OwnOptions):
    """How pictures become squares of one size, and by what they are normalised."""

    #: Side in pixels; None: the median of the shorter sides, at most 224.
    size: int | None = Field(default=None, ge=4, le=2048)
    #: Whole pictures squeezed to a square, or their middle.
    fit: Literal["squeeze", "crop"] = "squeeze"
    channels: Literal[1, 3] = 3
    #: Of pixels in [0, 1], one a channel: those that a network was trained with; None: D's own.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _one_a_channel(self) -> PictureOptions:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        for name, values, low in (("mean", self.mean, 0.0), ("std", self.std, 1e-4)):
            if values is not None and (len(values) != self.channels or not all(low <= value <= 1 for value in values)):
                raise ValueError(f"{name} is one number a channel ({self.channels}) of pixels in [0, 1]")
        return self


@own("image_folder", title="Pictures in a folder")
class ImageFolder(OwnFiles, ImageClassification):
    """``train/CLASS/*``, perhaps ``val/`` and ``test/`` beside it, or ``CLASS/*`` alone, as torchvision's ImageFolder reads them; or an index, a CSV with
    the columns path, label and perhaps split. Read by PIL."""

    Options = PictureOptions
    options: ClassVar[PictureOptions]
    suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
    column = "image"

    @classmethod
    def settled(cls, options: PictureOptions) -> dict[str, Any]:
        """``size`` and ``channels``."""
        size = options.size or typical_size(cls.there(options).files)
        return {"size": size, "channels": options.channels}

    @classmethod
    def measured(cls, splits: Splits) -> dict[str, Any]:
        """``mean`` and ``std``: those that are given, or D's."""
        given = cls.options
        return of_pixels(splits, "image", 1) if given.mean is None else {"mean": given.mean, "std": given.std}

    def decoded(self, path: Path) -> np.ndarray:
        """uint8 (channels, size, size)."""
        return picture(path, read_bytes(path), self.size, self.channels, self.options.fit)

    def empty(self) -> np.ndarray:
        """A black picture."""
        return np.zeros((self.channels, self.size, self.size), np.uint8)

    def decoding(self) -> dict[str, Any]:
        """Size, channels and fit."""
        return {"size": self.size, "channels": self.channels, "fit": self.options.fit}


def picture(path: Path, content: bytes, size: int, channels: int, fit: str) -> np.ndarray:
    """A picture as uint8 (channels, size, size); raises DataError naming one that is damaged."""
    if fit == "crop":
        content = middle(path, content)
    rgb = decode(path, size, content)
    if channels == 3:
        return rgb
    # As PIL makes grey of colours (ITU-R 601-2); what is grey already stays as it is.
    grey = (rgb.astype(np.uint32) * np.array([19595, 38470, 7471], np.uint32)[:, None, None]).sum(0) + 0x8000
    return (grey >> 16).astype(np.uint8)[None]


def middle(path: Path, content: bytes) -> bytes:
    """The largest square in the middle of a picture, as a file without loss."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            side = min(image.size)
            left, top = ((whole - side) // 2 for whole in image.size)
            square = image.convert("RGB").crop((left, top, left + side, top + side))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture ({error}).") from error
    written = io.BytesIO()
    square.save(written, "png")
    return written.getvalue()


def typical_size(files: list[Path]) -> int:
    """The median of the shorter sides of up to SIZED pictures, evenly spaced, between 8 and LARGEST; only headers are read."""
    from PIL import Image, UnidentifiedImageError

    sides = []
    for path in files[:: max(1, len(files) // SIZED)]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
            continue  # said where it is decoded
    return int(min(LARGEST, max(8, np.median(sides)))) if sides else LARGEST
