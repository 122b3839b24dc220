"""Tiny ImageNet as classification: 200 classes, 500 training and 50 validation pictures of 64 x 64 each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Columns, ImageClassification, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.files import find, read_text
from mubench_ray.tasks.pictures import decode, random_flip
from mubench_ray.trial import Training


@task("tiny_imagenet", "tiny-imagenet", "tiny-imagenet-200")
class TinyImageNet(ImageClassification):
    """The folder tiny-imagenet-200; its validation pictures, the only labelled ones besides, are D_Test."""

    card = Card(
        title="Tiny ImageNet (Stanford CS231N)",
        source="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
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
        """Read the pictures, decoded once; raises DataError naming what is missing or malformed."""
        root = find(
            self.name,
            self.data_dir,
            ["tiny-imagenet-200", "tiny_imagenet"],
            "wnids.txt",
            f"Unpack {self.card.source} there.",
        )
        names = sorted(read_text(root / "wnids.txt").split())
        if not names or len(names) > self.classes:
            raise DataError(f"{root / 'wnids.txt'}: lists {len(names)} classes, expected 1 to {self.classes}.")
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
