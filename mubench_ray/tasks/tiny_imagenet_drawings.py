"""Tiny ImageNet as MU-Bench's text-to-image task: draw a class from its name."""

from __future__ import annotations

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, Splits, task
from mubench_ray.tasks.files import find, read_text
from mubench_ray.tasks.text_to_image import Pictures, TextToImage
from mubench_ray.tasks.tiny_imagenet import TinyImageNet
from mubench_ray.trial import Training

#: Pictures of each class in D and in D_V: together 20,000 of the 100,000, as many as MU-Bench takes.
TRAIN, HELD_OUT = 85, 15
#: And in D_Test.
TEST = 5


@task("tiny_imagenet_drawings", "tiny-imagenet-text-to-image")
class TinyImageNetDrawings(TextToImage):
    """The first 85 pictures of each class of tiny_imagenet's D, the first 15 of its D_V, the first 5 of its D_Test, captioned
    ``a photo of a <name>``."""

    card = Card(
        title="Tiny ImageNet (Stanford CS231N), captioned with its classes' names",
        source=TinyImageNet.card.source,
        licence=TinyImageNet.card.licence,
        citation="MU-Bench, arXiv 2406.14796; " + TinyImageNet.card.citation,
        revision=TinyImageNet.card.revision,
        sizes={"train": 17000, "validation": 3000, "test": 1000},
        traps="MU-Bench does not say which 20,000 pictures it takes, nor its captions: ours are the first of each class, and the first "
        "name in words.txt. All pictures of a class share their caption. Pictures have 64 px; Stable Diffusion was trained on 512.",
    )
    classes = 200
    size = 64
    training = Training(optimizer="adamw", lr=1e-5, epochs=1, batch_size=16, weight_decay=0.01, schedule="constant")

    def load(self) -> Splits:
        """Read the pictures, decoded once; raises DataError naming what is missing or malformed."""
        pictures = TinyImageNet(self.data_dir).load()
        root = find(
            self.name,
            self.data_dir,
            ["tiny-imagenet-200", "tiny_imagenet"],
            "words.txt",
            f"Unpack {self.card.source} there.",
        )
        words = dict(line.split("\t", 1) for line in read_text(root / "words.txt").splitlines() if "\t" in line)
        names = sorted(read_text(root / "wnids.txt").split())
        if lost := [name for name in names if name not in words]:
            raise DataError(f"{root / 'words.txt'}: has no name for {lost[0]}.")
        wanted = ((pictures.train, TRAIN), (pictures.validation, HELD_OUT), (pictures.test, TEST))
        sets = [first_of_each(part, count) for part, count in wanted]
        parts, start = [], 0
        for part in sets:
            columns = {"text": part.labels, "picture": torch.arange(len(part)) + start, "labels": part.labels}
            parts.append(Examples(columns, part.source_index, carved=part.carved))
            start += len(part)
        captions = [f"a photo of a {words[name].split(',')[0].strip()}" for name in names]
        self.keep(captions, Pictures(*sets), parts[0])
        return Splits(*parts)


def first_of_each(examples: Examples, count: int) -> Examples:
    """The first ``count`` rows of every class."""
    rows = [(examples.labels == label).nonzero().flatten()[:count] for label in examples.labels.unique()]
    return examples.select(torch.cat(rows))
