"""Texts of one's own: a table, or a folder of tables, one a split."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field

from mubench_ray.errors import DataError, did_you_mean
from mubench_ray.tasks.examples import Examples, Splits
from mubench_ray.tasks.files import read_bytes, read_text
from mubench_ray.tasks.own import SPLITS, Own, OwnOptions, Parts, Source, numbered, own, part_of, placed
from mubench_ray.tasks.text import TextClassification

#: What a table may be written in.
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Table = dict[str, list[Any]]


class TextOptions(OwnOptions):
    """Which columns are what, and how much of a text is read."""

    text: str = "text"
    #: A second text that is read after the first.
    pair: str | None = None
    label: str = "label"
    #: The column that says the split of each row, in a single table.
    split: str | None = None
    #: Tokens that a text, or a pair, is cut to.
    max_length: int = Field(default=128, ge=4, le=4096)


class OwnTexts(Own, TextClassification):
    """Texts with labels, however they are kept. A subclass says its ``tables``."""

    options: ClassVar[Any]
    _kept: tuple[list[str], list[str] | None]

    @classmethod
    def settled(cls, options: Any) -> dict[str, Any]:
        """``max_length`` and ``pairs``."""
        return {"max_length": options.max_length, "pairs": options.pair is not None}

    def tables(self) -> tuple[str, dict[str, Table], list[str] | None, list[str]]:
        """What to call the data in an error; by split the columns ``text``, ``pair`` (where it is asked for) and ``label``, of equal length; names of the
        classes where the data says them, ``label`` then being their numbers; notes."""
        raise NotImplementedError(f"{type(self).__name__} does not define tables")

    def read(self) -> Parts:
        """Texts by number. A row without a text or a label is left out, and said."""
        where, tables, names, notes = self.tables()
        lost = 0
        chosen: dict[str, list[int]] = {}
        for part, table in tables.items():
            columns = [table[name] for name in ("text", "pair", "label") if name in table]
            chosen[part] = [
                row
                for row, cells in enumerate(zip(*columns))
                if all(cell is not None and str(cell).strip() for cell in cells)
            ]
            lost += len(columns[0]) - len(chosen[part])
        if lost:
            notes = [*notes, f"{lost} rows lack a text or a label and are left out"]
        labels = {part: [tables[part]["label"][row] for row in rows] for part, rows in chosen.items()}
        if names is None:
            names = numbered((label for part in labels.values() for label in part), where)
            number = {name: place for place, name in enumerate(names)}
            labels = {part: [number[str(label)] for label in of] for part, of in labels.items()}
        content, second, examples = list[str](), list[str](), {}
        for part, rows in chosen.items():
            first = len(content)
            content += [str(tables[part]["text"][row]) for row in rows]
            second += [str(tables[part]["pair"][row]) for row in rows] if self.pairs else []
            columns = {
                "text": torch.arange(first, len(content)),
                "labels": torch.tensor(labels[part], dtype=torch.int64),
            }
            examples[part] = Examples(columns, torch.tensor(rows, dtype=torch.int64))
        self._kept = content, second if self.pairs else None
        return Parts(examples, names, notes)

    def load(self) -> Splits:
        """D, D_V and D_Test, and the texts that they number."""
        splits = super().load()
        content, second = self._kept
        self.keep_texts(content, splits.train.columns["text"].tolist(), second)
        return splits


@own("text_table", title="Texts in a table")
class TextTable(OwnTexts):
    """A CSV, TSV, JSONL or Parquet file with a column of texts and one of labels, perhaps one of second texts (``pair``) and one that says each row's
    ``split``; or a folder with train, and perhaps val and test, as such files."""

    Options = TextOptions
    options: ClassVar[TextOptions]

    @classmethod
    def source(cls, options: TextOptions) -> Source:
        """The file, or those of the splits."""
        path = placed(options.path, f"task {cls.name}")
        if path.is_file():
            return Source(path.parent, [path])
        return Source(path, list(cls.files(path).values()))

    @classmethod
    def files(cls, folder: Path) -> dict[str, Path]:
        """The tables of a folder by their split; raises DataError where there is none of training, and for two of one split."""
        found: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            part = part_of(path.stem)
            if part is None or path.suffix.lower() not in SUFFIXES:
                continue
            if part in found:
                raise DataError(f"{folder}: {found[part].name} and {path.name} are both the split {part}: leave one.")
            found[part] = path
        if "train" not in found:
            raise DataError(f"{folder}: holds no train{', train'.join(SUFFIXES)}.")
        return found

    def tables(self) -> tuple[str, dict[str, Table], list[str] | None, list[str]]:
        """The columns of the table, or of every split's."""
        options = self.options
        path = placed(options.path, f"task {self.name}")
        wanted = {"text": options.text, "label": options.label} | ({"pair": options.pair} if options.pair else {})
        if path.is_dir():
            if options.split is not None:
                raise DataError(f"{path}: a folder of tables, one a split, has no column of splits: leave `split` out.")
            return (
                str(path),
                {part: columns(file, read_table(file), wanted) for part, file in self.files(path).items()},
                None,
                [],
            )
        table = read_table(path)
        if options.split is None:
            return str(path), {"train": columns(path, table, wanted)}, None, []
        whole = columns(path, table, wanted | {"split": options.split})
        parts: dict[str, Table] = {}
        for row, told in enumerate(whole.pop("split")):
            if (part := part_of(str(told).strip())) is None:
                named = ", ".join(name for names in SPLITS.values() for name in names)
                raise DataError(f"{path}: row {row + 1}: split {str(told)[:40]!r} is none of {named}.")
            for name in whole:
                parts.setdefault(part, {each: [] for each in whole})[name].append(whole[name][row])
        if "train" not in parts:
            raise DataError(f"{path}: no row is of the split train.")
        return str(path), parts, None, []


def columns(path: Path, table: Table, wanted: dict[str, str]) -> Table:
    """The columns of a table by what they are wanted for; raises DataError with the nearest names of one that is not there."""
    for what, name in wanted.items():
        if name not in table:
            raise DataError(
                f"{path}: has no column {name!r} ({what}). {did_you_mean(name, map(str, table))} Say `{what}: NAME`."
            )
    return {what: table[name] for what, name in wanted.items()}


def read_table(path: Path) -> Table:
    """The columns of a CSV, TSV, JSONL or Parquet file by name, all of one length; raises DataError naming the line that does not fit."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".jsonl":
        return _read_jsonl(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    raise DataError(f"{path}: is none of {', '.join(SUFFIXES)}.")


def _read_csv(path: Path, delimiter: str) -> Table:
    reader = csv.reader(
        io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True
    )
    limit = csv.field_size_limit(2**31 - 1)  # documents are longer than what it takes unasked
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for name in header if header.count(name) > 1]:
            raise DataError(f"{path}: names the column {twice[0]!r} twice.")
        rows = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: has {len(row)} cells, and the header names {len(header)} columns; a cell with a {delimiter!r} stands in quotes."
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: no readable table ({error}).") from error
    finally:
        csv.field_size_limit(limit)
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _read_jsonl(path: Path) -> Table:
    rows = []
    for line, text in enumerate(read_text(path).removeprefix("\ufeff").split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}:{line}: no JSON ({error}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{line}: expected an object with the columns, found {text[:40]!r}.")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(read_bytes(path))).to_pydict()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())}).") from error
