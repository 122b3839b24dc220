"""IMDB: 25,000 + 25,000 film reviews, negative or positive, with Rotten Tomatoes as the shifted test set."""

from __future__ import annotations

from pathlib import Path

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, Splits, carve_validation, task
from mubench_ray.tasks.files import Archive, find, read_text
from mubench_ray.tasks.hub import checked_labels, from_hub, hub_pin
from mubench_ray.tasks.sentiment import rotten_tomatoes
from mubench_ray.tasks.text import TextClassification
from mubench_ray.trial import Training

ARCHIVE = Archive(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz", "md5:7c2ac02c03563afcf9b574c7e56c153a", "aclImdb"
)


@task("imdb", "IMDB", "aclimdb")
class IMDB(TextClassification):
    """The folders aclImdb/{train,test}/{neg,pos} of one text file a review; downloaded where they are nowhere."""

    card = Card(
        title="Large Movie Review Dataset v1.0",
        source=ARCHIVE.url,
        licence="none stated; research use",
        citation="Maas et al. 2011, ACL P11-1015",
        revision="aclImdb v1",
        sizes={"train": 21250, "validation": 3750, "test": 25000},
        traps="Reviews are cut to 256 tokens. Rows are numbered neg before pos, by the number in the file name; whether MU-Bench's forget list "
        "numbers them so is not known. A tokenizer without published weights is trained on all of D, D_F included.",
    )
    classes = 2
    class_names = ("negative", "positive")
    class_synonyms = {"neg": "negative", "pos": "positive"}
    max_length = 256
    shifted = ("rotten_tomatoes",)
    training = Training(optimizer="adamw", lr=5e-5, epochs=3, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read the reviews, from the hub where a ``hub.json`` in the folder says so; raises DataError naming what is missing or not UTF-8."""
        parts = [*self._reviews(), rotten_tomatoes(self.data_dir)]
        contents, examples = [], []
        for part in parts:
            columns = {
                "text": torch.arange(len(part)) + len(contents),
                "labels": torch.tensor([label for _, label in part], dtype=torch.int64),
            }
            examples.append(Examples(columns, torch.arange(len(part))))
            contents += [text for text, _ in part]
        train, validation = carve_validation(examples[0])
        self.keep_texts(contents, train.columns["text"].tolist())
        return Splits(train, validation, examples[1], {"rotten_tomatoes": examples[2]} if parts[2] else {})

    def _reviews(self) -> list[list[tuple[str, int]]]:
        """(review, 0 or 1) of the training and the test set."""
        if pin := hub_pin(self.data_dir, "aclImdb", "imdb"):
            parts = from_hub(pin, ("train", "test"), ("text", "label"))
            return [
                [
                    (text.replace("<br />", " "), label)
                    for text, label in zip(part["text"], checked_labels(pin, part["label"], 2))
                ]
                for part in parts
            ]
        root = find(self.name, self.data_dir, ["aclImdb", "imdb"], "train/neg", f"Unpack {ARCHIVE.url} there.", ARCHIVE)
        return [read_reviews(root / "train"), read_reviews(root / "test")]


def read_reviews(folder: Path) -> list[tuple[str, int]]:
    """(review, 0 or 1) of one split."""
    reviews = []
    for label, name in enumerate(("neg", "pos")):
        files = sorted((folder / name).glob("*.txt"), key=lambda file: (len(file.stem.split("_")[0]), file.stem))
        if not files:
            raise DataError(f"{folder / name}: holds no .txt reviews.")
        reviews += [(read_text(file).replace("<br />", " "), label) for file in files]
    return reviews
