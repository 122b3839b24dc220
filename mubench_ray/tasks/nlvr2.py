"""NLVR2: is a sentence true of two photographs?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Splits, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.examples import MappedExamples
from mubench_ray.tasks.files import find, read_text
from mubench_ray.tasks.image_text import ImagePairClassification
from mubench_ray.tasks.pictures import decode
from mubench_ray.trial import Training

LABELS = {"True": 1, "False": 0}


@task("nlvr2", "NLVR2")
class NLVR2(ImagePairClassification):
    """The JSON-lines files of the repository's data folder and the folder images/{train,dev,test1,test2}; dev is D_V, test2 the shifted set."""

    card = Card(
        title="NLVR2",
        source="https://github.com/lil-lab/nlvr (images on request from the authors)",
        licence="CC BY 4.0 (sentences); photographs belong to their owners",
        citation="Suhr et al. 2019, arXiv 1811.00491",
        revision="nlvr2/data of 2019",
        sizes={"train": 86373, "validation": 6982, "test": 6967},
        traps="MU-Bench's paper says 62K, its list numbers 86K. Several sentences share a pair of pictures, which then lie on both sides of D_F. "
        "Pictures are squeezed to 384 x 384; a pair is stored once, 0.9 MB.",
    )
    carves_validation = False
    classes = 2
    class_names = ("False", "True")
    size = 384
    shifted = ("test2",)
    training = Training(optimizer="adamw", lr=5e-5, epochs=5, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read sentences and pictures, decoded once; raises DataError naming what is missing or malformed."""
        root = find(
            self.name,
            self.data_dir,
            ["nlvr2", "NLVR2"],
            ["train.json", "data/train.json"],
            f"Get it from {self.card.source}.",
        )
        folder = root if (root / "train.json").is_file() else root / "data"
        names = ["train", "dev", "test1", *(["test2"] if (folder / "test2.json").is_file() else [])]
        sentences: list[str] = []
        parts = [self._part(root, folder / f"{name}.json", name, sentences) for name in names]
        self.keep_texts(sentences, parts[0].columns["text"].tolist())
        train, validation, test, *more = parts
        return Splits(train, validation, test, {"test2": more[0]} if more else {})

    def _part(self, root: Path, path: Path, name: str, sentences: list[str]) -> MappedExamples:
        labels, pairs, numbers = [], [], {}
        first = len(sentences)
        for line_number, line in enumerate(read_text(path).splitlines(), 1):
            try:
                row = json.loads(line)
                pair = (str(row.get("directory", "")), row["identifier"].rsplit("-", 1)[0])
                labels.append(LABELS[row["label"]])
                sentences.append(row["sentence"])
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{path}:{line_number}: expected identifier, sentence and label True or False ({type(error).__name__}: {error})."
                ) from error
            pairs.append(numbers.setdefault(pair, len(numbers)))
        files = [
            root / "images" / name / folder / f"{stem}-img{side}.png" for folder, stem in numbers for side in (0, 1)
        ]

        def rows() -> Iterator[Row]:
            for place in range(len(numbers)):
                yield {
                    "images": np.stack([decode(file, self.size) for file in files[2 * place : 2 * place + 2]]),
                    "source_index": place,
                }

        store = converted(f"nlvr2-{name}", ["nlvr2", 1, self.size, name, fingerprint(root, files)], rows)
        columns = {"text": torch.arange(first, len(sentences)), "labels": torch.tensor(labels, dtype=torch.int64)}
        return MappedExamples(columns, torch.arange(len(labels)), store.mapped, torch.tensor(pairs))
