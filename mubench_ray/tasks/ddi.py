"""DDI-2013: which kind of interaction, if any, a sentence states between two of its drugs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, Splits, carve_validation, task
from mubench_ray.tasks.files import archive_members, data_places, read_bytes
from mubench_ray.tasks.text import TextClassification
from mubench_ray.trial import Training

CLASSES = ("false", "mechanism", "effect", "advise", "int")
MARK = "@DRUG$"
ARCHIVES = ("DDICorpus-2013.zip", "DDICorpus.zip")
TRAIN, TEST = ("Train", "Test/Test for DDI Extraction task")


class Pair(NamedTuple):
    """A sentence with two drugs marked, and the class of the pair."""

    text: str
    label: int


@task("ddi", "ddi-2013", "DDI2013")
class DDI(TextClassification):
    """The corpus as XML, in its zip or unpacked. Both drugs of a pair are replaced by ``@DRUG$``, as the BLURB benchmark does."""

    card = Card(
        title="DDI corpus 2013 (SemEval-2013 task 9.2)",
        source="https://github.com/isegura/DDICorpus",
        licence="CC BY-NC 4.0: never redistributed here",
        citation="Herrero-Zazo et al. 2013, doi:10.1016/j.jbi.2013.07.011",
        revision="DDICorpus-2013.zip",
        sizes={"train": 23623, "validation": 4169, "test": 5716},
        traps="Four in five pairs state no interaction: 'false' alone is right for 83 %. One training pair (DDI-DrugBank) has ddi='true' without a type; it "
        "is read as 'int'. Training entities' offsets count the last character in. MU-Bench numbers BLURB's 25,296 rows (a part of these 27,792, "
        "in BLURB's order), so its forget list does not fit these rows. Pairs of one sentence lie on both sides of a random D_F.",
    )
    classes = 5
    class_names = CLASSES
    class_synonyms = {"advice": "advise"} | {f"DDI {name}": name for name in CLASSES}
    max_length = 128
    markers = (MARK,)
    training = Training(optimizer="adamw", lr=5e-5, epochs=5, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read the pairs; raises DataError naming the XML file that is malformed."""
        train, test = self._pairs()
        examples = []
        for start, pairs in ((0, train), (len(train), test)):
            labels = torch.tensor([pair.label for pair in pairs], dtype=torch.int64)
            examples.append(
                Examples({"text": torch.arange(len(pairs)) + start, "labels": labels}, torch.arange(len(pairs)))
            )
        kept, validation = carve_validation(examples[0])
        self.keep_texts([pair.text for pair in (*train, *test)], kept.columns["text"].tolist())
        return Splits(kept, validation, examples[1])

    def _pairs(self) -> tuple[list[Pair], list[Pair]]:
        places = data_places(self.data_dir, "DDICorpus", "ddi")
        for place in places:
            if (place / TRAIN).is_dir():
                files = (
                    (file.relative_to(place).as_posix(), read_bytes(file)) for file in sorted(place.rglob("*.xml"))
                )
                return _sorted_out(place, files)
            for archive in ARCHIVES:
                if (place / archive).is_file():
                    return _sorted_out(place / archive, archive_members(place / archive, ".xml"))
        looked = ", ".join(map(str, places))
        raise DataError(
            f"{self.name}: no {ARCHIVES[0]} and no folder {TRAIN} in {looked}. Get the corpus from {self.card.source}."
        )


def _sorted_out(where: Path, files: Iterable[tuple[str, bytes]]) -> tuple[list[Pair], list[Pair]]:
    """(train, test) pairs of the files by their folder."""
    train: list[Pair] = []
    test: list[Pair] = []
    for name, content in files:
        inner = f"/{name}"
        part = train if f"/{TRAIN}/" in inner else test if f"/{TEST}/" in inner else None
        if part is not None:
            part += read_pairs(where / name, content)
    for part, name in ((train, TRAIN), (test, TEST)):
        if not part:
            raise DataError(f"{where}: has no pairs below {name!r}; the archive is incomplete.")
    return train, test


def read_pairs(where: Path, content: bytes) -> list[Pair]:
    """The pairs of one document; raises DataError naming the file for XML that is malformed or declares entities, and for labels out of range."""
    pairs: list[Pair] = []
    sentence: dict[str, str] = {}
    spans: dict[str, tuple[int, int]] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "sentence":
            sentence.clear()
            sentence.update(attributes)
            spans.clear()
        elif name == "entity":
            spans[attributes["id"]] = _span(where, attributes, len(sentence["text"]))
        elif name == "pair":
            label = _label(where, attributes)
            pairs.append(Pair(mark(sentence["text"], spans[attributes["e1"]], spans[attributes["e2"]]), label))

    def refuse(*declaration: object) -> None:
        raise DataError(f"{where}: declares a document type or entities, which no DDI file does; it is not read.")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f"{where}: not well-formed XML ({error}); fetch it again.") from error
    except KeyError as error:
        raise DataError(f"{where}: line {parser.CurrentLineNumber}: refers to {error}, which is not there.") from error
    return pairs


def mark(text: str, first: tuple[int, int], second: tuple[int, int]) -> str:
    """The sentence with both spans (start, end) replaced by MARK; one mark behind the other where they overlap."""
    (start, end), (next_start, next_end) = sorted((first, second))
    if next_start < end:
        return f"{text[:start]}{MARK} {MARK}{text[max(end, next_end) :]}"
    return f"{text[:start]}{MARK}{text[end:next_start]}{MARK}{text[next_end:]}"


def _span(where: Path, attributes: dict[str, str], length: int) -> tuple[int, int]:
    """(start, end) of an entity's first stretch; the corpus counts the last character in."""
    offsets = attributes["charOffset"]
    try:
        start, last = map(int, offsets.split(";")[0].split("-"))
    except ValueError:
        raise DataError(f"{where}: entity {attributes['id']}: charOffset {offsets!r} is not START-END.") from None
    if not 0 <= start <= last < length + 1:
        raise DataError(
            f"{where}: entity {attributes['id']}: charOffset {offsets!r} is outside its sentence of {length} characters."
        )
    return start, last + 1


def _label(where: Path, attributes: dict[str, str]) -> int:
    kind = attributes.get("type", "int") if attributes["ddi"] == "true" else attributes["ddi"]
    if kind not in CLASSES:
        raise DataError(
            f"{where}: pair {attributes.get('id')}: class {kind!r} is out of range; expected one of {', '.join(CLASSES)}."
        )
    return CLASSES.index(kind)
