"""A data set of the datasets library: a folder that ``save_to_disk`` wrote, or an id of the hub at a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from mubench_ray.errors import DataError, did_you_mean
from mubench_ray.tasks.base import ImageClassification
from mubench_ray.tasks.conversion import Row, converted
from mubench_ray.tasks.examples import Splits
from mubench_ray.tasks.files import read_bytes
from mubench_ray.tasks.hub import COMMIT
from mubench_ray.tasks.image_folder import LARGEST, PictureOptions, picture
from mubench_ray.tasks.own import Own, Parts, Source, listed, numbered, own, part_of, placed
from mubench_ray.tasks.own_files import of_pixels
from mubench_ray.tasks.sound_folder import recording
from mubench_ray.tasks.speech import SpeechClassification
from mubench_ray.tasks.text_table import OwnTexts, Table

#: Pictures whose size is looked at.
SIZED = 100


class DatasetOptions(PictureOptions):
    """Which columns are what: one of ``text``, ``image`` and ``audio``, and ``label``; which splits are; and how an example is read."""

    text: str | None = None
    #: A second text that is read after the first.
    pair: str | None = None
    image: str | None = None
    audio: str | None = None
    label: str = "label"
    #: Of a data set of the hub that has several.
    config: str | None = None
    #: Names of splits, where they are not the usual ones.
    train: str | None = None
    val: str | None = None
    testing: str | None = None
    max_length: int = Field(default=128, ge=4, le=4096)
    seconds: float = Field(default=1.0, gt=0, le=60)

    @model_validator(mode="after")
    def _one_input(self) -> DatasetOptions:
        given = [name for name in ("text", "image", "audio") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"name the column of the inputs with one of text, image and audio (given: {', '.join(given) or 'none'})"
            )
        if self.pair and not self.text:
            raise ValueError("pair goes with text")
        return self


class Stored(Own):
    """What is the same for every modality: where the data set is, its splits, its columns and the names of its classes."""

    options: ClassVar[DatasetOptions]

    @classmethod
    def at_commit(cls, options: DatasetOptions) -> tuple[str, str] | None:
        """Id and commit of a data set of the hub; None for a folder. Raises DataError for an id without a commit."""
        name, _, revision = options.path.partition("@")
        if COMMIT.fullmatch(revision):
            return name, revision
        try:
            placed(options.path, f"task {cls.name}")
        except DataError as error:
            raise DataError(
                f"{error} As a data set of the hub it needs a commit of 40 digits: path: {name}@COMMIT."
            ) from None
        return None

    @classmethod
    def source(cls, options: DatasetOptions) -> Source:
        """All files of the folder."""
        root = placed(options.path, f"task {cls.name}")
        # What the library itself writes there while it reads.
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith(("cache-", ".")))
        return Source(root, files)

    @classmethod
    def content(cls, options: DatasetOptions) -> str:
        """The commit, or the hash of the folder's files."""
        hub = cls.at_commit(options)
        return hub[1] if hub else super().content(options)

    @classmethod
    def stamps(cls, options: DatasetOptions) -> Any:
        """The commit, or the files' names, sizes and times."""
        return cls.at_commit(options) or super().stamps(options)

    @classmethod
    def splits_of(cls, options: DatasetOptions) -> tuple[dict[str, Any], list[str]]:
        """The data set's splits by what they are here, each with the columns that are asked for, and notes. Raises DataError with what there is."""
        found = stored(cls.at_commit(options), options, cls.name)
        named = {"train": options.train, "validation": options.val, "test": options.testing}
        chosen: dict[str, Any] = {}
        for part, name in named.items():
            if name is not None and name not in found:
                raise DataError(f"{options.path}: has no split {name!r}. {did_you_mean(name, found)}")
            usual = [each for each in found if part_of(each) == part and each not in named.values()]
            if name or usual:
                chosen[part] = found[name or usual[0]]
        if "train" not in chosen:
            raise DataError(
                f"{options.path}: which of its splits {listed(found)} is the training one? Say `train: NAME`."
            )
        unread = [name for name, split in found.items() if not any(split is each for each in chosen.values())]
        notes = [f"its splits {listed(unread)} are not read"] if unread else []
        for split in chosen.values():
            for what in ("text", "pair", "image", "audio", "label"):
                column = getattr(options, what)
                if column and column not in split.column_names:
                    raise DataError(
                        f"{options.path}: has no column {column!r} ({what}). {did_you_mean(column, split.column_names)} Say `{what}: NAME`."
                    )
        return chosen, notes

    @classmethod
    def labels_of(cls, options: DatasetOptions, splits: dict[str, Any]) -> tuple[dict[str, list[int]], list[str]]:
        """The labels of every split as numbers, -1 for one that is not labelled, and the names of the classes: the data set's own where it has them."""
        told = {part: split.with_format(None)[options.label] for part, split in splits.items()}
        told = {part: list(labels) for part, labels in told.items()}
        feature = splits["train"].features[options.label]
        if names := getattr(feature, "names", None):
            return {
                part: [-1 if label is None else int(label) for label in labels] for part, labels in told.items()
            }, list(names)
        names = numbered((label for labels in told.values() for label in labels if label is not None), options.path)
        number = {name: place for place, name in enumerate(names)}
        return {
            part: [-1 if label is None else number[str(label)] for label in labels] for part, labels in told.items()
        }, names


class StoredTexts(Stored, OwnTexts):
    """Texts of a data set."""

    def tables(self) -> tuple[str, dict[str, Table], list[str] | None, list[str]]:
        """The columns of every split."""
        splits, notes = self.splits_of(self.options)
        labels, names = self.labels_of(self.options, splits)
        wanted = {"text": self.options.text} | ({"pair": self.options.pair} if self.options.pair else {})
        tables = {
            part: {what: list(split[column]) for what, column in wanted.items()}
            | {"label": [None if label < 0 else label for label in labels[part]]}
            for part, split in splits.items()
        }
        return self.options.path, tables, names, notes


class StoredFiles(Stored):
    """Pictures or recordings of a data set, decoded once into a file that is mapped."""

    column: ClassVar[str]

    def read(self) -> Parts:
        """What cannot be read, or has no label, is left out, and said."""
        splits, notes = self.splits_of(self.options)
        labels, names = self.labels_of(self.options, splits)
        examples, unreadable = {}, 0
        for part, split in splits.items():

            def rows(split: Any = split, own: list[int] = labels[part]) -> Iterator[Row]:
                for place, (cell, label) in enumerate(zip(cells(split, self.of(self.options)), own)):
                    where = Path(f"{self.options.path}, row {place}")
                    try:
                        content = self.decoded(where, contents(where, cell))
                    except DataError:  # counted below
                        content, label = self.empty(), -1
                    yield {self.column: content, "labels": label, "source_index": place}

            made_from = [
                "hf_dataset",
                self.reading,
                part,
                self.options.model_dump(mode="json", exclude={"path", "called"}),
                self.decoding(),
            ]
            mapped = converted(f"hf_dataset-{part}", made_from, rows)
            read = mapped.labels >= 0
            unreadable += int((~read).sum())
            examples[part] = mapped.select(read.nonzero().flatten()) if not read.all() else mapped
        if unreadable:
            notes.append(f"{unreadable} examples cannot be read, or have no label, and are left out")
        return Parts(examples, names, notes)

    @classmethod
    def of(cls, options: DatasetOptions) -> str:
        """The name of the column that is read."""
        return str(options.image or options.audio)

    decoded: Callable[..., np.ndarray]
    empty: Callable[..., np.ndarray]
    decoding: Callable[..., dict[str, Any]]


class StoredPictures(StoredFiles, ImageClassification):
    """Pictures of a data set."""

    column = "image"

    @classmethod
    def settled(cls, options: DatasetOptions) -> dict[str, Any]:
        """``size`` and ``channels``."""
        return {"size": options.size or cls._typical(options), "channels": options.channels}

    @classmethod
    def _typical(cls, options: DatasetOptions) -> int:
        import io

        from PIL import Image, UnidentifiedImageError

        train = cls.splits_of(options)[0]["train"]
        sides = []
        for row in range(0, len(train), max(1, len(train) // SIZED)):
            try:
                [cell] = cells(train.select([row]), cls.of(options))
                with Image.open(io.BytesIO(contents(Path(options.path), cell))) as image:
                    sides.append(min(image.size))
            except (DataError, OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
                continue  # counted where it is decoded
        return int(min(LARGEST, max(8, np.median(sides)))) if sides else LARGEST

    @classmethod
    def measured(cls, splits: Splits) -> dict[str, Any]:
        """``mean`` and ``std``: those that are given, or D's."""
        given = cls.options
        return of_pixels(splits, "image", 1) if given.mean is None else {"mean": given.mean, "std": given.std}

    def decoded(self, where: Path, content: bytes) -> np.ndarray:
        """uint8 (channels, size, size)."""
        return picture(where, content, self.size, self.channels, self.options.fit)

    def empty(self) -> np.ndarray:
        """A black picture."""
        return np.zeros((self.channels, self.size, self.size), np.uint8)

    def decoding(self) -> dict[str, Any]:
        """Size, channels and fit."""
        return {"size": self.size, "channels": self.channels, "fit": self.options.fit}


class StoredSounds(StoredFiles, SpeechClassification):
    """Recordings of a data set."""

    column = "waveform"

    @classmethod
    def settled(cls, options: DatasetOptions) -> dict[str, Any]:
        """``seconds``."""
        return {"seconds": options.seconds}

    def decoded(self, where: Path, content: bytes) -> np.ndarray:
        """int16 (samples,)."""
        return recording(where, content, self.rate, self.samples)

    def empty(self) -> np.ndarray:
        """Silence."""
        return np.zeros(self.samples, np.int16)

    def decoding(self) -> dict[str, Any]:
        """Rate and length."""
        return {"rate": self.rate, "samples": self.samples}


@own("hf_dataset", title="A data set of the datasets library")
class HfDataset(Stored):
    """A folder that ``save_to_disk`` wrote, or ``id@commit`` of the Hugging Face hub; ``text``, ``image`` or ``audio`` and ``label`` name its columns. Names of
    classes are the data set's own. Only data is read: loading scripts are not run."""

    Options = DatasetOptions
    modality = "text, image or speech"

    @classmethod
    def variant(cls, options: DatasetOptions) -> type[Own]:
        """By the column of its inputs."""
        kind: type[Own] = StoredTexts if options.text else StoredPictures if options.image else StoredSounds
        said = {"name": cls.name, "card": cls.card, "training": cls.training}
        made: Any = type(kind.__name__, (kind,), said | {"__module__": cls.__module__, "__doc__": cls.__doc__})
        return made

    def blank(self, rows: int) -> Any:
        """Of no modality yet: those of the variants are."""
        raise NotImplementedError("a data set is opened as texts, pictures or recordings")


def stored(hub: tuple[str, str] | None, options: DatasetOptions, name: str) -> dict[str, Any]:
    """The splits of a data set by name; raises DataError where it cannot be loaded."""
    from datasets import Dataset, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    try:
        if hub is None:
            found: Any = load_from_disk(str(placed(options.path, f"task {name}")))
        else:
            found = load_dataset(hub[0], options.config, revision=hub[1])
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(
            f"{options.path}: cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())})."
        ) from error
    return {"train": found} if isinstance(found, Dataset) else {str(split): rows for split, rows in found.items()}


def cells(split: Any, column: str) -> Iterator[Any]:
    """What a column holds, row by row: of pictures and recordings their files as they are kept, undecoded."""
    feature = split.features[column]
    if hasattr(feature, "decode"):
        split = split.cast_column(column, type(feature)(decode=False))
    return (row[column] for row in split.select_columns([column]))


def contents(where: Path, cell: Any) -> bytes:
    """The file that a cell holds or names; raises DataError for any other thing."""
    if isinstance(cell, dict) and cell.get("bytes"):
        return cell["bytes"]
    if isinstance(cell, dict) and cell.get("path"):
        return read_bytes(Path(cell["path"]))
    raise DataError(f"{where}: holds no file of a picture or a recording.")
