"""SAMSum: chat dialogues and their summaries."""

from __future__ import annotations

import json
from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Splits, task
from mubench_ray.tasks.files import find, read_text
from mubench_ray.tasks.hub import from_hub, hub_pin
from mubench_ray.tasks.sequence import SequenceToSequence
from mubench_ray.tasks.xsum import xsum
from mubench_ray.trial import Training

FILES = ("train.json", "val.json", "test.json")


@task("samsum", "SAMSum")
class SAMSum(SequenceToSequence):
    """The three JSON files of the corpus; val.json is D_V. XSum is the shifted set where it is at hand."""

    card = Card(
        title="SAMSum corpus",
        source="https://arxiv.org/src/1911.12237v2/anc/corpus.7z",
        licence="CC BY-NC-ND 4.0",
        citation="Gliwa et al. 2019, arXiv 1911.12237",
        revision="corpus.7z of 2019",
        sizes={"train": 14732, "validation": 818, "test": 819},
        traps="MU-Bench's forget list is sorted, so its prefix is not random. Dialogues are cut to 256 tokens. ``correct`` is the share of tokens right "
        "given those before, not ROUGE-L.",
    )
    carves_validation = False
    max_length = 256
    shifted = ("xsum",)
    training = Training(optimizer="adamw", lr=1e-4, epochs=3, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read the files, or from the hub where a ``hub.json`` in the folder says so; raises DataError naming what is missing or malformed."""
        if pin := hub_pin(self.data_dir, "samsum", "SAMSum", "corpus"):
            parts = from_hub(pin, ("train", "validation", "test"), ("dialogue", "summary"))
            pairs = (
                [(d.replace("\r\n", "\n"), s) for d, s in zip(part["dialogue"], part["summary"])] for part in parts
            )
            return self.splits_of(*pairs, xsum=xsum(self.data_dir))
        folder = find(
            self.name, self.data_dir, ["samsum", "SAMSum", "corpus"], FILES, f"Unpack {self.card.source} there."
        )
        return self.splits_of(*(read_dialogues(folder / name) for name in FILES), xsum=xsum(self.data_dir))


def read_dialogues(path: Path) -> list[tuple[str, str]]:
    """(dialogue, summary) pairs of one file; raises DataError naming it."""
    try:
        return [(row["dialogue"].replace("\r\n", "\n"), row["summary"]) for row in json.loads(read_text(path))]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected a list of objects with dialogue and summary ({type(error).__name__}: {error})."
        ) from error
