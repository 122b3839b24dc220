"""Emoji and their names: a text-to-image task on real drawings that needs no hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from mubench_ray.tasks.base import Card, Examples, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.emoji_pairs import emoji_source, read_emoji
from mubench_ray.tasks.pictures import decode
from mubench_ray.tasks.text_to_image import Pictures, TextToImage
from mubench_ray.trial import Training

CATEGORIES = (
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)


@task("emoji_drawings", "emoji-drawings")
class EmojiDrawings(TextToImage):
    """Draw the emoji of a name; the class is its category. A class-proportional tenth is D_Test."""

    card = Card(
        title="Twemoji and their names",
        source="npm emoji-datasource-twitter 16.0.0 (npm pack emoji-datasource-twitter@16.0.0)",
        licence="MIT (data), CC BY 4.0 (Twemoji pictures)",
        citation="Twitter Twemoji; stands in for the text-to-image setting of MU-Bench, arXiv 2406.14796",
        revision="16.0.0",
        sizes={"train": 1459, "validation": 257, "test": 190},
        traps="One picture a caption: what is drawn for a name of D_F after unlearning can only come from its words. A published model has seen "
        "emoji elsewhere.",
    )
    classes = len(CATEGORIES)
    size = 64
    max_length = 24
    training = Training(optimizer="adamw", lr=1e-4, epochs=50, batch_size=16, weight_decay=0.01, schedule="constant")

    def load(self) -> Splits:
        """Read names and pictures from the package's archive or folder; raises DataError naming what is missing or malformed."""
        source = emoji_source(self.name, self.data_dir, self.card.source)
        listed, contents = read_emoji(source, CATEGORIES)
        file = source / "emoji.json" if source.is_dir() else source

        def rows() -> Iterator[Row]:
            for place, entry in enumerate(listed):
                content = contents[entry["image"]]
                yield {
                    "image": decode(Path(entry["image"]), self.size, content),
                    "labels": CATEGORIES.index(entry["category"]),
                    "source_index": place,
                }

        store = converted(self.name, ["emoji_drawings", 1, fingerprint(file.parent, [file])], rows)
        numbers = torch.arange(len(store))
        everything = Examples({"text": numbers, "picture": numbers, "labels": store.labels}, numbers)
        rest, test = carve_validation(everything, 0.1)
        train, validation = carve_validation(rest)
        names = [entry["short_name"].replace("_", " ").replace("-", " ") for entry in listed]
        self.keep([f"an emoji of {name}" for name in names], Pictures(store), train)
        return Splits(train, validation, test)
