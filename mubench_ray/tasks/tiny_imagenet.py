"""Tiny ImageNet as classification: 200 classes, 500 training and 50 validation pictures of 64 x 64 each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Columns, ImageClassification, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.files import Archive, find, read_text
from mubench_ray.tasks.hub import Pin, checked_labels, from_hub, hub_pin
from mubench_ray.tasks.pictures import decode, random_flip
from mubench_ray.trial import Training

ARCHIVE = Archive(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "md5:90528d7ca1a48142e341f4ef8d21d0de", "tiny-imagenet-200"
)


@task("tiny_imagenet", "tiny-imagenet", "tiny-imagenet-200")
class TinyImageNet(ImageClassification):
    """The folder tiny-imagenet-200; its validation pictures, the only labelled ones besides, are D_Test. Downloaded where it is nowhere."""

    card = Card(
        title="Tiny ImageNet (Stanford CS231N)",
        source=ARCHIVE.url,
        licence="ImageNet terms of access: non-commercial research",
        citation="Le & Yang 2015, Tiny ImageNet Visual Recognition Challenge; Deng et al. 2009",
        revision="tiny-imagenet-200.zip of 2015",
        sizes={"train": 85000, "validation": 15000, "test": 10000},
        traps="The folder test/ has no labels. Some pictures are grey; they are read as RGB. MU-Bench uses 20,000 of them for text-to-image.",
    )
    classes = 200
    channels = 3
    size = 64
    mean = (0.4802, 0.4481, 0.3975)
    std = (0.2770, 0.2691, 0.2821)
    training = Training(
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=100, batch_size=256, schedule="cosine"
    )

    def load(self) -> Splits:
        """Read the pictures, decoded once, from the hub where a ``hub.json`` in the folder says so; raises DataError naming what is missing or
        malformed."""
        if pin := hub_pin(self.data_dir, "tiny-imagenet-200", "tiny_imagenet"):
            return self._from_hub(pin)
        root = find(
            self.name,
            self.data_dir,
            ["tiny-imagenet-200", "tiny_imagenet"],
            "wnids.txt",
            f"Unpack {ARCHIVE.url} there.",
            ARCHIVE,
        )
        names = sorted(read_text(root / "wnids.txt").split())
        if not names or len(names) > self.classes:
            raise DataError(f"{root / 'wnids.txt'}: lists {len(names)} classes, expected 1 to {self.classes}.")
        if len(names) == self.classes:
            self.class_names = tuple(names)
        number = {name: place for place, name in enumerate(names)}
        train = [(path, number[name]) for name in names for path in _pictures(root / "train" / name / "images")]
        annotations = root / "val" / "val_annotations.txt"
        test = []
        for line_number, line in enumerate(read_text(annotations).splitlines(), 1):
            picture, name = [*line.split("\t"), ""][:2]
            if name not in number:
                raise DataError(f"{annotations}:{line_number}: class {name!r} is not in wnids.txt.")
            test.append((root / "val" / "images" / picture, number[name]))
        parts = []
        for part, listed in (("train", train), ("val", test)):
            made_from = [
                "tiny_imagenet",
                1,
                part,
                [label for _, label in listed],
                fingerprint(root, (path for path, _ in listed)),
            ]
            parts.append(converted(f"{self.name}-{part}", made_from, lambda listed=listed: self._rows(listed)))
        return Splits(*carve_validation(parts[0]), parts[1])

    def _from_hub(self, pin: Pin) -> Splits:
        parts = []
        for name, rows in zip(("train", "valid"), from_hub(pin, ("train", "valid|validation"), ("image", "label"))):
            labels = checked_labels(pin, rows["label"], self.classes)

            def decoded(rows: Any = rows, labels: list[int] = labels) -> Iterator[Row]:
                for place, label in enumerate(labels):
                    picture = np.asarray(rows[place]["image"].convert("RGB").resize((self.size, self.size)))
                    yield {"image": picture.transpose(2, 0, 1), "labels": label, "source_index": place}

            made_from = ["tiny_imagenet hub", 1, pin.id, pin.revision, name, rows._fingerprint]
            parts.append(converted(f"{self.name}-{name}", made_from, decoded))
        return Splits(*carve_validation(parts[0]), parts[1])

    def augment(self, columns: Columns, generator: torch.Generator) -> Columns:
        """Random horizontal flip."""
        return {**columns, "image": random_flip(columns["image"], generator)}

    def _rows(self, listed: list[tuple[Path, int]]) -> Iterator[Row]:
        for place, (path, label) in enumerate(listed):
            yield {"image": decode(path, self.size), "labels": label, "source_index": place}


def _pictures(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.JPEG"))
    if not paths:
        raise DataError(f"{folder}: holds no .JPEG pictures.")
    return paths
