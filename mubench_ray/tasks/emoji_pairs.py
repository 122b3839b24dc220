"""Two emoji and a sentence about them: an image-pair task that is composed here, for NLVR2's photographs come only on request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.randomness import numpy_generator
from mubench_ray.tasks.base import Card, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.files import archive_members, data_places, read_bytes, read_text
from mubench_ray.tasks.image_text import ImagePairClassification
from mubench_ray.tasks.pictures import decode
from mubench_ray.trial import Training

#: The package's folder of 64 px pictures, and the kinds of emoji that are used: things with a name and no skin tone.
PICTURES = "img/twitter/64"
CATEGORIES = ("Animals & Nature", "Food & Drink")
#: Pairs that are drawn: those of D and D_V, and those of D_Test.
TRAIN, TEST = 8000, 2000


class Pair(NamedTuple):
    """Places of the two emoji in the list, the sentence, and whether it is true."""

    left: int
    right: int
    sentence: str
    label: int


@task("emoji_pairs", "emoji-pairs")
class EmojiPairs(ImagePairClassification):
    """Is the sentence true of the two pictures? Half are: a false one names another emoji, in half of the cases the one on the other side."""

    card = Card(
        title="Pairs of Twemoji with templated sentences, composed here",
        source="npm emoji-datasource-twitter 16.0.0 (npm pack emoji-datasource-twitter@16.0.0)",
        licence="MIT (data), CC BY 4.0 (Twemoji pictures)",
        citation="Twitter Twemoji; stands in for NLVR2 of MU-Bench, arXiv 2406.14796",
        revision="16.0.0",
        sizes={"train": 6800, "validation": 1200, "test": 2000},
        traps="Made-up sentences on real drawings: it stands in for nlvr2 and says nothing about photographs. All emoji occur in all parts; "
        "only the pairs differ, so what D_F taught of an emoji, D_R teaches too.",
    )
    classes = 2
    class_names = ("False", "True")
    size = 64
    max_length = 16
    training = Training(optimizer="adamw", lr=5e-4, epochs=20, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read names and pictures from the package's archive or folder; raises DataError naming what is missing or malformed."""
        source = emoji_source(self.name, self.data_dir, self.card.source)
        listed, contents = read_emoji(source)
        names = [entry["short_name"].replace("_", " ").replace("-", " ") for entry in listed]
        parts, sentences = [], []
        for part, count in (("train", TRAIN), ("test", TEST)):
            pairs = draw_pairs(names, count, part)

            def rows(pairs: list[Pair] = pairs) -> Iterator[Row]:
                pictures = {
                    name: decode(source / PICTURES / name, self.size, content) for name, content in contents.items()
                }
                for place, pair in enumerate(pairs):
                    both = [pictures[listed[side]["image"]] for side in (pair.left, pair.right)]
                    yield {"images": np.stack(both), "labels": pair.label, "source_index": place}

            file = source / "emoji.json" if source.is_dir() else source
            examples = converted(
                f"{self.name}-{part}", ["emoji_pairs", 1, part, count, fingerprint(file.parent, [file])], rows
            )
            examples.columns["text"] = torch.arange(count) + len(sentences)
            sentences += [pair.sentence for pair in pairs]
            parts.append(examples)
        train, validation = carve_validation(parts[0])
        self.keep_texts(sentences, train.columns["text"].tolist())
        return Splits(train, validation, parts[1])


def emoji_source(task: str, data_dir: Path | None, advice: str) -> Path:
    """The package's folder or archive; raises DataError with all places that were looked in."""
    places = data_places(data_dir, "emoji-datasource-twitter", "package")
    for place in places:
        if (place / "emoji.json").is_file():
            return place
        if found := sorted(place.glob("emoji-datasource-twitter-*.tgz")):
            return found[-1]
    looked = ", ".join(map(str, places))
    raise DataError(f"{task}: no emoji.json and no emoji-datasource-twitter-*.tgz in {looked}. Fetch it: {advice}.")


def read_emoji(source: Path, categories: tuple[str, ...] = CATEGORIES) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The emoji of some categories in the order of their names, and their pictures' content by file name."""
    if source.is_dir():
        table = read_text(source / "emoji.json")
        every = {path.name: path for path in (source / PICTURES).glob("*.png")}
    else:
        table = dict(archive_members(source, "/emoji.json")).get("package/emoji.json", b"").decode("utf-8", "replace")
        members = archive_members(source, ".png")
        every = {name.rsplit("/", 1)[-1]: content for name, content in members if f"/{PICTURES}/" in name}
    try:
        listed = [entry for entry in json.loads(table) if entry["category"] in categories and entry["has_img_twitter"]]
        listed.sort(key=lambda entry: entry["short_name"])
        wanted = [entry["image"] for entry in listed]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{source}: emoji.json is not a list of emoji ({type(error).__name__}: {error}).") from error
    if len(listed) < 4:
        raise DataError(f"{source}: emoji.json holds {len(listed)} emoji of {' and '.join(categories)}, too few.")
    if lost := [name for name in wanted if name not in every]:
        raise DataError(f"{source}: lacks the picture {PICTURES}/{lost[0]}.")
    found = {name: every[name] for name in wanted}
    return listed, {name: place if isinstance(place, bytes) else read_bytes(place) for name, place in found.items()}


def draw_pairs(names: list[str], count: int, stream: str) -> list[Pair]:
    """``count`` pairs of different emoji with a sentence, true and false in turn."""
    rng = numpy_generator("emoji_pairs", stream)
    pairs = []
    for number in range(count):
        left, right, other = (int(place) for place in rng.choice(len(names), 3, replace=False))
        side = int(rng.integers(2))
        shown, opposite = ((left, right), (right, left))[side]
        named = shown if number % 2 == 0 else opposite if rng.random() < 0.5 else other
        sentence = f"the {('left', 'right')[side]} picture shows a {names[named]}"
        pairs.append(Pair(left, right, sentence, 1 - number % 2))
    return pairs
