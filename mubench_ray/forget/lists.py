"""Forget lists as files hold them: text, CSV, JSON, NumPy's and torch's arrays; and the lists that MU-Bench released, by what they hold."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mubench_ray.errors import DataError

#: Columns of a CSV, and keys of a JSON object, that ids or a mask are looked for under.
NAMED = ("index", "indices", "idx", "id", "ids", "mask", "forget")
#: Above this not every whole number is a float.
LARGEST = 2**53


class Released(NamedTuple):
    """A list that MU-Bench released: its file there, what it numbers, and the tasks here whose training list that is."""

    list: str
    numbers: str
    tasks: tuple[str, ...]


def read_numbers(path: Path) -> list[int]:
    """The numbers of a list file: ids in order of deletion, or a mask. Raises DataError naming the place of what is no id.

    By its suffix: ``.npy``; ``.pt`` or ``.pth``, of which nothing but tensors and plain data is read; ``.json``, a list or an object with one, as a
    manifest has it in ``indices``; ``.csv``, one column or one that is called an index; else text, one number a line. 7.0 is 7, as ``numpy.savetxt``
    writes it, and true is 1.
    """
    reader = READERS.get(path.suffix.lower(), _text)
    try:
        numbers = [_whole(where, value) for where, value in reader(path)]
    except (OSError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read as {path.suffix or 'text'}: {told}.") from error
    if not numbers:
        raise DataError(f"{path}: lists no ids.")
    return numbers


def is_mask(numbers: list[int]) -> bool:
    """Whether the numbers are a line of 0 or 1 for each example."""
    return len(numbers) > 2 and set(numbers) <= {0, 1}


def released(numbers: list[int]) -> Released | None:
    """The list of MU-Bench's that these numbers are, in whatever file; None for any other."""
    return _released().get(hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest())


@functools.cache
def _released() -> dict[str, Released]:
    content = json.loads(Path(__file__).with_name("released.json").read_text())
    return {key: Released(of["list"], of["numbers"], tuple(of["tasks"])) for key, of in content.items()}


Located = Iterable[tuple[str, Any]]


def _text(path: Path) -> Located:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def _csv(path: Path) -> Located:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    if not rows:
        return
    header = [cell.strip() for cell in rows[0][1]]
    titled = not all(map(_is_number, header))
    column = 0
    if len(header) > 1:
        column = header.index(_named(path, header, "column"))
    for number, row in rows[titled:]:
        if len(row) <= column:
            raise DataError(f"{path}:{number}: has {len(row)} columns, and the ids are in column {column + 1}.")
        yield f"{path}:{number}", row[column].strip()


def _json(path: Path) -> Located:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, dict):
        content = content[_named(path, [key for key, value in content.items() if isinstance(value, list)], "key")]
    if not isinstance(content, list):
        raise DataError(f"{path}: holds {type(content).__name__}; give a list of ids, or an object with one.")
    return ((f"{path}: entry {number}", value) for number, value in enumerate(content, 1))


def _npy(path: Path) -> Located:
    return _array(path, np.load(path, allow_pickle=False))


def _torch(path: Path) -> Located:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        listed = [key for key, value in content.items() if isinstance(value, (list, torch.Tensor, tuple))]
        content = content[_named(path, listed, "key")]
    if not isinstance(content, (list, tuple, torch.Tensor)):
        raise DataError(f"{path}: holds {type(content).__name__}; give a tensor or a list of ids.")
    return _array(path, torch.as_tensor(content).numpy())


def _array(path: Path, array: np.ndarray) -> Located:
    if sum(size > 1 for size in array.shape) > 1 or array.ndim == 0:
        raise DataError(f"{path}: has shape {tuple(array.shape)}; give one dimension: ids in order, or a mask.")
    return ((f"{path}: entry {number}", value) for number, value in enumerate(array.reshape(-1).tolist(), 1))


def _named(path: Path, names: list[str], what: str) -> str:
    found = [name for name in names if name.lower() in NAMED]
    if len(names) == 1:
        return names[0]
    if len(found) != 1:
        known = ", ".join(names) or "none"
        raise DataError(f"{path}: which {what} holds the ids? It has {known}; call one of them `index`.")
    return found[0]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.lower() in ("true", "false")
    return True


def _whole(where: str, value: Any) -> int:
    """The id; raises DataError for what is none."""
    said = str(value)
    text = said.lower()
    try:
        number = int(text) if text not in ("true", "false") else int(text == "true")
    except ValueError:
        try:
            read = float(text)
        except ValueError:
            read = float("nan")
        if not (read.is_integer() and abs(read) < LARGEST):
            raise DataError(f"{where}: {said[:40]!r} is not an id.") from None
        number = int(read)
    if number < 0:
        raise DataError(f"{where}: id {number} is negative.")
    return number


READERS: dict[str, Callable[[Path], Located]] = {
    ".npy": _npy, ".pt": _torch, ".pth": _torch, ".json": _json, ".csv": _csv, ".txt": _text
}  # fmt: skip
