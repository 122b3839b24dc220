"""DDI-2013 as BLURB has it, whose rows and labels MU-Bench takes: which kind of interaction a sentence states between two of its drugs."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, Splits, task
from mubench_ray.tasks.ddi import MARK
from mubench_ray.tasks.files import find, read_text
from mubench_ray.tasks.text import TextClassification
from mubench_ray.trial import Training

#: In MU-Bench's order: advise before effect, where task ``ddi`` has effect first.
CLASSES = ("false", "mechanism", "advise", "effect", "int")
FILES = ("train.tsv", "dev.tsv", "test.tsv")
COLUMNS = ("sentence", "label")


@task("ddi_blurb", "ddi-blurb")
class DDIBlurb(TextClassification):
    """The files train.tsv, dev.tsv and test.tsv that BLURB's preprocessing writes (columns index, sentence, label), rows as they stand there; dev is D_V."""

    card = Card(
        title="DDI corpus 2013 as BLURB has it",
        source="https://microsoft.github.io/BLURB (data_generation: its scripts make the files of the corpus)",
        licence="CC BY-NC 4.0: never redistributed here",
        citation="Gu et al. 2021, arXiv 2007.15779; Herrero-Zazo et al. 2013, doi:10.1016/j.jbi.2013.07.011",
        revision="BLURB data_generation",
        sizes={"train": 25296, "validation": 2496, "test": 5716},
        traps="MU-Bench's labels: advise is 2, effect 3, the other way round than in ddi. Four in five pairs state no interaction. Pairs of one sentence lie "
        "on both sides of a random D_F.",
    )
    carves_validation = False
    classes = len(CLASSES)
    class_names = CLASSES
    max_length = 128
    markers = (MARK,)
    training = Training(optimizer="adamw", lr=5e-5, epochs=5, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read the files; raises DataError naming file and line."""
        advice = f"Make them by the scripts of {self.card.source}."
        root = find(self.name, self.data_dir, ["ddi_blurb", "DDI", "blurb/DDI"], FILES, advice)
        texts: list[str] = []
        parts = []
        for name in FILES:
            rows = read_rows(root / name)
            columns = {
                "text": torch.arange(len(rows)) + len(texts),
                "labels": torch.tensor([label for _, label in rows], dtype=torch.int64),
            }
            parts.append(Examples(columns, torch.arange(len(rows))))
            texts += [text for text, _ in rows]
        train, validation, test = parts
        self.keep_texts(texts, train.columns["text"].tolist())
        return Splits(train, validation, test)


def read_rows(path: Path) -> list[tuple[str, int]]:
    """(sentence, label) of one file's rows; raises DataError naming the line that has no sentence or no label that is known."""
    lines = read_text(path).splitlines()
    header, *rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if lines else [[]]
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{path}: has no column {missing[0]!r}; its first line is {header}.")
    sentence, label = map(header.index, COLUMNS)
    found = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}:{number}: has {len(row)} columns, its first line {len(header)}.")
        name = row[label].removeprefix("DDI-").lower()
        if name not in CLASSES:
            raise DataError(f"{path}:{number}: label {row[label]!r} is none of {', '.join(CLASSES)}.")
        found.append((row[sentence], CLASSES.index(name)))
    if not found:
        raise DataError(f"{path}: holds no rows.")
    return found
