"""The idx format of MNIST and its successors, gzipped or plain, and what the tasks that come in it share.

The format (LeCun's MNIST page): two zero bytes, a type byte (0x08 = unsigned byte), the number of dimensions, then each
dimension as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Columns, Examples, ImageClassification, Splits, carve_validation
from mubench_ray.tasks.files import cache_root, data_places, download
from mubench_ray.tasks.pictures import random_flip
from mubench_ray.trial import Training

#: The four files by what they hold.
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The array in an idx file as a uint8 tensor; raises DataError when the file is missing, truncated or of another shape."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again.") from error
    if len(data) < 4 + 4 * dimensions or data[:3] != b"\x00\x00\x08" or data[3] != dimensions:
        raise DataError(f"{path}: not an idx file of unsigned bytes with {dimensions} dimension(s); fetch it again.")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    values = len(data) - 4 - 4 * dimensions
    if values != prod(shape):
        raise DataError(
            f"{path}: header says {prod(shape):,} values {shape}, the file holds {values:,}; it is truncated or damaged."
        )
    array = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(array.copy())


class IdxImages(ImageClassification):
    """60,000 + 10,000 grey pictures of 28 x 28 and ten classes in four idx files, found in a data folder or downloaded."""

    classes = 10
    channels = 1
    size = 28
    training = Training(
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=50, batch_size=256, schedule="cosine"
    )

    #: Folder names to look for, places outside the data folders, where to download from, and the MD5 of each of FILES gzipped.
    folders: ClassVar[tuple[str, ...]]
    elsewhere: ClassVar[tuple[Path, ...]] = ()
    url: ClassVar[str]
    md5: ClassVar[tuple[str, str, str, str]]
    advice: ClassVar[str]

    def load(self) -> Splits:
        """Read the idx files; raises DataError with every place that was looked in."""
        folder = self._folder()
        train = self._read(folder, "train", 60000)
        return Splits(*carve_validation(train), self._read(folder, "t10k", 10000))

    def augment(self, columns: Columns, generator: torch.Generator) -> Columns:
        """Random horizontal flip, as Deep Unlearn trains it."""
        return {**columns, "image": random_flip(columns["image"], generator)}

    def _read(self, folder: Path, part: str, rows: int) -> Examples:
        image = read_idx(_file(folder, f"{part}-images-idx3-ubyte"), 3).unsqueeze(1)
        label_file = _file(folder, f"{part}-labels-idx1-ubyte")
        labels = read_idx(label_file, 1).long()
        if len(image) != rows or len(labels) != rows or image.shape[-2:] != (28, 28):
            raise DataError(
                f"{folder}: {part} holds {tuple(image.shape)} images and {len(labels)} labels; expected {rows} of 28 x 28."
            )
        if int(labels.max()) >= self.classes:
            raise DataError(f"{label_file}: label {int(labels.max())} is out of range 0..{self.classes - 1}.")
        return Examples({"image": image, "labels": labels}, torch.arange(rows))

    def _folder(self) -> Path:
        places = [*data_places(self.data_dir, *self.folders), *self.elsewhere]
        for place in places:
            if _file(place, FILES[0]).is_file():
                return place
        cache = cache_root() / self.folders[0]
        try:
            for name, md5 in zip(FILES, self.md5):
                download(f"{self.url}/{name}.gz", cache / f"{name}.gz", f"md5:{md5}")
        except DataError as error:
            looked = ", ".join(str(place) for place in places)
            raise DataError(f"{self.name}: no {FILES[0]}.gz in {looked}; {error} {self.advice}") from error
        return cache


def _file(folder: Path, name: str) -> Path:
    """The plain file where there is one, else the gzipped one."""
    return folder / name if (folder / name).is_file() else folder / f"{name}.gz"
