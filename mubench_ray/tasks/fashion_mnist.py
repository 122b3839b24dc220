"""FashionMNIST: 60,000 + 10,000 pictures of clothes, 28 x 28, ten classes."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Columns, Examples, ImageClassification, Splits, carve_validation, task
from mubench_ray.tasks.idx import read_idx
from mubench_ray.trial import Training


@task("fashion_mnist", "fashion-mnist", "FashionMNIST")
class FashionMNIST(ImageClassification):
    """The four idx files, found in ``data_dir``, in Debian's dataset-fashion-mnist, or downloaded."""

    card = Card(
        title="Fashion-MNIST",
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        citation="Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747",
        revision="idx files of 2017",
        sizes={"train": 60000, "test": 10000},
        traps="Deep Unlearn pads it to 32 px; here it stays at 28.",
    )
    classes = 10
    channels = 1
    size = 28
    mean = (0.2860,)
    std = (0.3530,)
    training = Training(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=50, batch_size=256, schedule="cosine")

    url: ClassVar[str] = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    debian: ClassVar[Path] = Path("/usr/share/datasets/fashion-mnist")

    def load(self) -> Splits:
        """Read the idx files; raises DataError with every place that was looked in."""
        folder = self._folder()
        train = self._read(folder, "train", 60000)
        return Splits(*carve_validation(train), self._read(folder, "t10k", 10000))

    def augment(self, columns: Columns, generator: torch.Generator) -> Columns:
        """Random horizontal flip, as Deep Unlearn trains it."""
        image = columns["image"]
        flip = torch.rand(len(image), generator=generator) < 0.5
        return {**columns, "image": torch.where(flip.view(-1, 1, 1, 1), image.flip(-1), image)}

    def _read(self, folder: Path, part: str, rows: int) -> Examples:
        image = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3).unsqueeze(1)
        label_file = folder / f"{part}-labels-idx1-ubyte.gz"
        labels = read_idx(label_file, 1).long()
        if len(image) != rows or len(labels) != rows or image.shape[-2:] != (28, 28):
            raise DataError(f"{folder}: {part} holds {tuple(image.shape)} images and {len(labels)} labels; expected {rows} of 28 x 28.")
        if int(labels.max()) >= self.classes:
            raise DataError(f"{label_file}: label {int(labels.max())} is out of range 0..{self.classes - 1}.")
        return Examples({"image": image, "labels": labels}, torch.arange(rows))

    def _folder(self) -> Path:
        name = "train-images-idx3-ubyte.gz"
        own = [self.data_dir / "fashion-mnist", self.data_dir / "fashion_mnist", self.data_dir] if self.data_dir else []
        places = [*own, self.debian]
        for place in places:
            if (place / name).is_file():
                return place
        cache = Path(os.environ.get("MUBENCH_DATA", Path.home() / ".cache" / "mubench_ray")) / "fashion-mnist"
        try:
            for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
                self._download(f"{part}-ubyte.gz", cache)
        except (OSError, urllib.error.URLError) as error:
            looked = ", ".join(str(place) for place in places)
            raise DataError(
                f"fashion_mnist: no {name} in {looked}, and {self.url} did not answer ({error}). "
                "Put the four idx files into a folder and name it as data_dir, or: apt-get install dataset-fashion-mnist."
            ) from error
        return cache

    def _download(self, name: str, cache: Path) -> None:
        target = cache / name
        if target.is_file():
            return
        cache.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".part{os.getpid()}")
        with urllib.request.urlopen(f"{self.url}/{name}", timeout=20) as response:
            partial.write_bytes(response.read())
        partial.rename(target)
