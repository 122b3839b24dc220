"""Snippets of film reviews with human scores, and three other kinds of text with the same scores as shifted test sets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, Splits, carve_validation, task
from mubench_ray.tasks.files import archive_members, check_member, check_size, data_places, read_bytes, read_member
from mubench_ray.tasks.text import TextClassification
from mubench_ray.trial import Training

ARCHIVES = ("vaderSentiment-2.5.tar.gz", "vadersentiment-2.5.tar.gz", "hutto_ICWSM_2014.tar.gz")
FILES = {
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}


@task("movie_snippets", "movie-snippets")
class MovieSnippets(TextClassification):
    """Positive or negative by the sign of the mean of twenty people's scores; a class-proportional fifth is D_Test.

    Shifted: ``amazon`` (product reviews), ``tweets``, ``editorials`` (New York Times).
    """

    card = Card(
        title="Film review snippets scored by twenty people, from the VADER paper",
        source="PyPI vaderSentiment 2.5 (source distribution): pip download --no-deps --no-binary :all: vaderSentiment==2.5",
        licence="MIT (the package); the snippets are from rottentomatoes.com",
        citation="Hutto & Gilbert 2014, ICWSM, doi:10.1609/icwsm.v8i1.14550",
        revision="2.5",
        sizes={"train": 7187, "validation": 1268, "test": 2113},
        traps="Scores near 0 are noisy labels; scores of exactly 0 are left out. Overlaps with Rotten Tomatoes: no transfer set for it.",
    )
    classes = 2
    class_names = ("negative", "positive")
    class_synonyms = {"neg": "negative", "pos": "positive"}
    max_length = 64
    shifted = ("amazon", "tweets", "editorials")
    training = Training(optimizer="adamw", lr=5e-4, epochs=5, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read the source distribution, or the archive inside it, or its unpacked folder; raises DataError naming what is missing."""
        where, contents = self._contents()
        texts: list[str] = []
        examples = {}
        for name, file in FILES.items():
            if file not in contents:
                raise DataError(f"{where}: lacks {file}.")
            scored = [(text, score) for text, score in read_scores(where / file, contents[file]) if score != 0]
            labels = torch.tensor([score > 0 for _, score in scored], dtype=torch.int64)
            examples[name] = Examples(
                {"text": torch.arange(len(scored)) + len(texts), "labels": labels}, torch.arange(len(scored))
            )
            texts += [text for text, _ in scored]
        rest, test = carve_validation(examples.pop("movie"), 0.2)
        train, validation = carve_validation(rest)
        self.keep_texts(texts, train.columns["text"].tolist())
        return Splits(train, validation, test, examples)

    def _contents(self) -> tuple[Path, dict[str, bytes]]:
        places = data_places(self.data_dir, "movie_snippets", "hutto_ICWSM_2014")
        for place in places:
            if (place / FILES["movie"]).is_file():
                return place, {file: read_bytes(place / file) for file in FILES.values() if (place / file).is_file()}
            for archive in ARCHIVES:
                if (place / archive).is_file():
                    return place / archive, _unpack(place / archive)
        looked = ", ".join(map(str, places))
        raise DataError(f"{self.name}: no {ARCHIVES[0]} in {looked}. Fetch it: {self.card.source}.")


def _unpack(path: Path) -> dict[str, bytes]:
    """Files by name; the source distribution holds them in an archive of its own."""
    members = {name.rsplit("/", 1)[-1]: content for name, content in archive_members(path, ".txt")}
    for name, content in archive_members(path, "hutto_ICWSM_2014.tar.gz"):
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as inner:
                for info in inner:
                    check_member(path, info.name)
                    if info.isfile() and info.name.endswith("_GroundTruth.txt"):
                        check_size(path, info.name, info.size)
                        members[info.name.rsplit("/", 1)[-1]] = read_member(inner, info)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{path}: {name} inside it is not a readable archive ({error}).") from error
    return members


def read_scores(where: Path, content: bytes) -> list[tuple[str, float]]:
    """(text, mean score in -4..4) of lines ``id TAB score TAB text``; raises DataError naming file and line."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start}; fetch it again.") from error
    scored = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t", 2)
        try:
            score = float(fields[1])
            text = fields[2].strip()
        except (IndexError, ValueError):
            raise DataError(f"{where}:{number}: expected id, score and text between tabs, got {line[:60]!r}.") from None
        if not -4 <= score <= 4:
            raise DataError(f"{where}:{number}: score {score:g} is out of range -4..4.")
        scored.append((text, score))
    return scored
