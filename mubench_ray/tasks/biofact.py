"""BioFact: the 183 biographies that FActScore's annotators checked."""

from __future__ import annotations

import json

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, Splits, carve_validation, task
from mubench_ray.tasks.files import find, read_text
from mubench_ray.tasks.sequence import CausalLanguageModel
from mubench_ray.tasks.wiki_bio import prompt
from mubench_ray.trial import Training

FILE = "labeled/ChatGPT.jsonl"


@task("biofact", "bio-fact", "bioceleb")
class BioFact(CausalLanguageModel):
    """FActScore's released file of labelled biographies; a fifth is D_Test."""

    card = Card(
        title="FActScore, human-labelled biographies",
        source="https://github.com/shmsw25/FActScore (data.zip, labeled/ChatGPT.jsonl)",
        licence="MIT (code); texts written by a language model",
        citation="Min et al. 2023, arXiv 2305.14251",
        revision="data.zip of 2023",
        sizes={"train": 124, "validation": 22, "test": 37},
        traps="MU-Bench does not say which of FActScore's three model outputs is its text; ours are ChatGPT's. Refusals among them are kept.",
    )
    max_length = 24
    max_target = 256
    training = Training(optimizer="adamw", lr=5e-5, epochs=5, batch_size=8, weight_decay=0.0, schedule="constant")

    def load(self) -> Splits:
        """Read the JSON lines; raises DataError naming file and line."""
        path = (
            find(
                self.name,
                self.data_dir,
                ["factscore", "FActScore", "biofact"],
                FILE,
                f"Unpack data.zip of {self.card.source} there.",
            )
            / FILE
        )
        pairs = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            try:
                row = json.loads(line)
                pairs.append((prompt(row["topic"]), row["output"].strip()))
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{path}:{number}: expected an object with topic and output ({type(error).__name__}: {error})."
                ) from error
        everything = Examples({"labels": torch.zeros(len(pairs), dtype=torch.int64)}, torch.arange(len(pairs)))
        rest, test = carve_validation(everything, 0.2)
        train, validation = carve_validation(rest)
        splits = self.splits_of(*([pairs[i] for i in part.source_index] for part in (train, validation, test)))
        return Splits(
            Examples(splits.train.columns, train.source_index),
            Examples(splits.validation.columns, validation.source_index, carved=True),
            Examples(splits.test.columns, test.source_index),
        )
