"""A user's own files, one an example: folders of classes as torchvision's ``ImageFolder`` has them, or an index of paths, labels and splits."""

from __future__ import annotations

import csv
import io
import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from mubench_ray.errors import DataError, did_you_mean
from mubench_ray.tasks.conversion import Row, converted
from mubench_ray.tasks.examples import Splits
from mubench_ray.tasks.files import read_text
from mubench_ray.tasks.own import Own, OwnOptions, Parts, Source, listed, numbered, part_of, placed

#: Rows of D that its mean and standard deviation are taken of.
MEASURED = 2000
#: Columns of an index; ``split`` may be left out.
INDEX = ("path", "label", "split")


class Listed(NamedTuple):
    """Files with the names of their class and, of data that has splits, what each is a part of."""

    root: Path
    files: list[Path]
    labels: list[str]
    parts: list[str]
    #: What lies there and is not read, in words.
    notes: list[str]


class OwnFiles(Own):
    """Files, one an example. A subclass says which ``suffixes`` are read, the ``column`` that a file becomes and how it is ``decoded``."""

    suffixes: ClassVar[tuple[str, ...]]
    column: ClassVar[str]
    #: Of files in a folder that is itself an example (of frames); none for most.
    inside: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def source(cls, options: Any) -> Source:
        """All files that the folders or the index name, and the index."""
        found = cls.there(options)
        files = [each for path in found.files for each in (sorted(path.iterdir()) if path.is_dir() else [path])]
        path = placed(options.path, f"task {cls.name}")
        return Source(found.root, [*files, *([path] if path.is_file() else [])])

    @classmethod
    def there(cls, options: OwnOptions) -> Listed:
        """What lies there, in order of split, class and name; raises DataError for a class without files and for an index that does not fit."""
        path = placed(options.path, f"task {cls.name}")
        return cls._indexed(path) if path.is_file() else cls._foldered(path)

    @classmethod
    def _is_example(cls, path: Path) -> bool:
        if path.name.startswith("."):
            return False
        if path.is_dir():
            return bool(cls.inside) and any(file.suffix.lower() in cls.inside for file in path.iterdir())
        return path.suffix.lower() in cls.suffixes

    @classmethod
    def _examples(cls, folder: Path) -> list[Path]:
        """What is in a class's folder, in torchvision's order: folders within it are entered, unless they are examples."""
        if cls.inside:
            return sorted(each for each in folder.iterdir() if cls._is_example(each))
        walked = sorted((Path(top), names) for top, _, names in os.walk(folder, followlinks=True))
        return [path for top, names in walked for name in sorted(names) if cls._is_example(path := top / name)]

    @classmethod
    def _foldered(cls, root: Path) -> Listed:
        inner = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
        parts = {folder: part for folder in inner if (part := part_of(folder.name))}
        if parts and "train" not in parts.values():
            raise DataError(f"{root}: has {listed(each.name for each in parts)} and no folder 'train'.")
        found = Listed(root, [], [], [], [])
        if parts and (other := [each.name for each in inner if each not in parts]):
            found.notes.append(f"not read, as no names of splits: {listed(other)}")
        for top, part in sorted(parts.items(), key=lambda pair: pair[1]) if parts else [(root, "train")]:
            classes = sorted(each for each in top.iterdir() if each.is_dir() and not each.name.startswith("."))
            if not classes:
                raise DataError(
                    f"{top}: holds no folders, one a class; its files may be named by an index, a CSV with the columns path, label and split."
                )
            for folder in classes:
                files = cls._examples(folder)
                if not files:
                    raise DataError(
                        f"{folder}: the class has no file that ends in {', '.join(cls.suffixes)}: fill the folder, or remove it."
                    )
                found.files.extend(files)
                found.labels.extend([folder.name] * len(files))
                found.parts.extend([part] * len(files))
        return found

    @classmethod
    def _indexed(cls, index: Path) -> Listed:
        rows = csv.DictReader(io.StringIO(read_text(index).removeprefix("\ufeff")))
        columns = [name.strip() for name in rows.fieldnames or ()]
        for name in INDEX[:2]:
            if name not in columns:
                raise DataError(
                    f"{index}: an index has the columns path, label and perhaps split, and this one has no {name!r}. {did_you_mean(name, columns)}"
                )
        rows.fieldnames = columns
        found = Listed(index.parent, [], [], [], [])
        for line, row in enumerate(rows, 2):
            name, label, split = ((row.get(column) or "").strip() for column in INDEX)
            path = index.parent / name
            if not name or not path.exists():
                raise DataError(f"{index}:{line}: there is no file {name!r} beside it.")
            if not path.resolve().is_relative_to(index.parent.resolve()):
                raise DataError(f"{index}:{line}: {name!r} leads out of the folder of the index.")
            if not label:
                raise DataError(f"{index}:{line}: {name!r} has no label.")
            part = part_of(split) if split else "train"
            if part is None:
                raise DataError(f"{index}:{line}: split {split!r} is none of train, val and test.")
            found.files.append(path)
            found.labels.append(label)
            found.parts.append(part)
        if len(set(found.files)) != len(found.files):
            twice = next(path for path in found.files if found.files.count(path) > 1)
            raise DataError(f"{index}: {twice.name!r} is listed twice.")
        if found.files and "train" not in found.parts:
            raise DataError(f"{index}: no row is of the split train.")
        return found

    def read(self) -> Parts:
        """Every file decoded once, into a file that is mapped; those that cannot be read are left out, and said."""
        found = self.there(self.options)
        # Folders as torchvision numbers them, so that a network trained on them by it keeps its classes: '10' comes before '2'.
        folders = placed(self.options.path, self.name).is_dir()
        names = numbered(found.labels, str(found.root), as_text=folders)
        number = {name: place for place, name in enumerate(names)}
        labels = [number[label] for label in found.labels]
        examples, unreadable = {}, list[str]()
        for part in sorted(set(found.parts)):
            chosen = [place for place, of in enumerate(found.parts) if of == part]

            def rows(chosen: list[int] = chosen) -> Iterator[Row]:
                for place, here in enumerate(chosen):
                    try:
                        content, label = self.decoded(found.files[here]), labels[here]
                    except DataError:  # said, and counted, below
                        content, label = self.empty(), -1
                    yield {self.column: content, "labels": label, "source_index": place}

            made_from = [self.name.partition(":")[0], self.reading, part, self.options.sha256, self.decoding()]
            mapped = converted(f"{self.name.partition(':')[0]}-{part}", made_from, rows)
            read = mapped.labels >= 0
            # Numbers count the files as they are listed, those that cannot be read among them.
            bad = [found.files[chosen[row]] for row in (~read).nonzero().flatten().tolist()]
            unreadable += [path.relative_to(found.root).as_posix() for path in bad]
            examples[part] = mapped.select(read.nonzero().flatten()) if bad else mapped
        if "train" in examples and not len(examples["train"]):
            raise DataError(
                f"{found.root}: not one file of the training examples can be read; the first is {listed(unreadable[:1])}."
            )
        notes = list(found.notes)
        if folders and names != numbered(found.labels, str(found.root)):
            notes.append(f"classes are in the order of their names as text, as torchvision has them: {listed(names)}")
        if unreadable:
            told = f"{len(unreadable)} of {len(found.files)} files cannot be read and are left out"
            notes.append(f"{told}: {listed(unreadable)}")
        return Parts(examples, names, notes)

    @abstractmethod
    def decoded(self, path: Path) -> np.ndarray:
        """One example; raises DataError where the file is damaged."""

    @abstractmethod
    def empty(self) -> np.ndarray:
        """What stands for one that cannot be read, of the same shape and type."""

    @abstractmethod
    def decoding(self) -> dict[str, Any]:
        """What decides how a file is decoded, beside its content; anything JSON holds."""


def of_pixels(splits: Splits, column: str, axis: int) -> dict[str, Any]:
    """``mean`` and ``std`` of D's pixels in [0, 1], a channel each, of up to MEASURED examples evenly spaced; ``axis`` is that of the channels."""
    rows = torch.linspace(0, len(splits.train) - 1, min(len(splits.train), MEASURED)).long().unique()
    total, squares, count = torch.zeros(1), torch.zeros(1), 0
    for chunk in rows.split(64):
        pixels = splits.train.take(chunk)[column].double().div(255).movedim(axis, 0).flatten(1)
        total, squares, count = total + pixels.sum(1), squares + pixels.square().sum(1), count + pixels.shape[1]
    mean = total / count
    # Where all pixels are alike there is nothing to scale.
    std = (squares / count - mean.square()).clamp(min=1e-4).sqrt()
    return {"mean": [round(float(m), 4) for m in mean], "std": [round(float(s), 4) for s in std]}
