"""A small task of every modality, read by the real loader from the original layout."""

from __future__ import annotations

import pytest
import torch

from mubench_ray.tasks import TASKS, Splits, Task
from mubench_ray.tasks.base import ImageClassification
from tests.tasks.layouts import (
    write_emoji,
    write_idx_images,
    write_movie_snippets,
    write_nlvr2,
    write_samsum,
    write_spoken_digits,
    write_wiki_bio,
)

Loaded = tuple[Task, Splits]


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    """A function from a modality and kind to a task and its splits, loaded once."""
    folder = tmp_path_factory.mktemp("data")
    patch = pytest.MonkeyPatch()
    patch.setenv("MUBENCH_CACHE", str(folder / "cache"))
    patch.delenv("MUBENCH_DATA", raising=False)
    kept: dict[tuple[str, str], Loaded] = {}

    def load(modality: str, kind: str = "classification") -> Loaded:
        if (modality, kind) not in kept:
            name, write = SOURCES[modality, kind]
            place = folder / name
            if write is not None:
                write(place)
            task = TASKS.get(name)(place)
            kept[modality, kind] = task, task.load()
        return kept[modality, kind]

    yield load
    patch.undo()


SOURCES = {
    ("image", "classification"): ("digits", None),
    ("text", "classification"): ("movie_snippets", write_movie_snippets),
    ("speech", "classification"): ("spoken_digits", lambda place: write_spoken_digits(place, 12)),
    ("video", "classification"): ("moving_fashion", lambda place: write_idx_images(place / "fashion-mnist", "")),
    ("image pair + text", "classification"): ("nlvr2", lambda place: write_nlvr2(place / "nlvr2")),
    ("text", "sequence to sequence"): ("samsum", write_samsum),
    ("text", "causal language model"): ("wiki_bio", write_wiki_bio),
    ("caption + picture", "text to image"): ("emoji_drawings", write_emoji),
}


class Thousand(ImageClassification):
    """The shape of ImageNet, in which sizes of networks are published."""

    name = "thousand"
    classes, channels, size = 1000, 3, 224
    mean, std = (0.5,) * 3, (0.5,) * 3

    def load(self) -> Splits:
        raise NotImplementedError("only its shapes are used")


@pytest.fixture(scope="session")
def thousand() -> Thousand:
    return Thousand()


def seeded(build):
    """What ``build`` gives under seed 0."""
    torch.manual_seed(0)
    return build()
