"""Data sets of the Hugging Face hub in place of the authors' files, at a revision that the user pins.

A file ``hub.json`` in a data set's folder, ``{"id": "uoft-cs/cifar100", "revision": "<commit>"}``, asks for it. An unpinned data set may change under a
benchmark, so ids that are not in REVISIONS need one. ``id`` may also be a folder of Parquet files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from mubench_ray.errors import DataError
from mubench_ray.tasks.files import data_places, read_text

FILE = "hub.json"
#: Commits that several public projects pin independently of each other (the hub itself could not be asked from where this was written).
REVISIONS = {
    "uoft-cs/cifar10": "0b2714987fa478483af9968de7c934580d0bb9a2",
    "uoft-cs/cifar100": "aadb3af77e9048adbea6b47c21a81e47dd092ae5",
    "stanfordnlp/imdb": "e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    "zh-plus/tiny-imagenet": "5a77092c28e51558c5586e9c5eb71a7e17a5e43f",
    "knkarthick/samsum": "6b929ff10edec703164e3ddb2e94aae058c9ab5f",
}
COMMIT = re.compile(r"[0-9a-f]{40}")


class Pin(NamedTuple):
    """A data set of the hub (or a folder) at a commit, and the file that asks for it."""

    id: str
    revision: str | None
    path: Path


def hub_pin(data_dir: Path | None, *names: str) -> Pin | None:
    """What the first ``hub.json`` in a data set's folders asks for, or None; raises DataError where its revision is no commit."""
    for place in data_places(data_dir, *names):
        path = place / FILE
        if place.name not in names or not path.is_file():
            continue
        try:
            content = json.loads(read_text(path))
            name = str(content["id"])
            pin = Pin(name, content.get("revision", REVISIONS.get(name)), path)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{path}: expected {{"id": ..., "revision": ...}} ({type(error).__name__}: {error}).'
            ) from error
        if not Path(pin.id).is_dir() and not (isinstance(pin.revision, str) and COMMIT.fullmatch(pin.revision)):
            raise DataError(
                f"{path}: revision = {pin.revision!r} is not a commit of 40 hexadecimal digits; take the one shown under "
                f"https://huggingface.co/datasets/{pin.id}/commits/main."
            )
        return pin
    return None


def from_hub(pin: Pin, splits: tuple[str, ...], columns: tuple[str, ...]) -> list[Any]:
    """The named splits (``valid|validation``: whichever is there) as ``datasets`` data sets with these columns; raises DataError where the hub does
    not answer or holds something else.

    Only data is read: loading scripts are not run.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    local = Path(pin.id).is_dir()
    try:
        found = load_dataset(pin.id, revision=None if local else pin.revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        at = "" if local else f" at {pin.revision}"
        reason = " ".join(str(error).split())
        raise DataError(f"{pin.path}: {pin.id}{at} cannot be loaded ({type(error).__name__}: {reason}).") from error
    chosen = []
    for names in splits:
        name = next((name for name in names.split("|") if name in found), None)
        if name is None:
            raise DataError(f"{pin.path}: {pin.id} has no split {names!r}; it has {sorted(found)}.")
        if lost := [column for column in columns if column not in found[name].column_names]:
            raise DataError(f"{pin.path}: {pin.id} has no column {lost[0]!r}; it has {found[name].column_names}.")
        chosen.append(found[name])
    return chosen


def checked_labels(pin: Pin, labels: list[Any], classes: int) -> list[int]:
    """The labels; raises DataError for one that is out of range."""
    for place, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < classes:
            raise DataError(f"{pin.path}: row {place} of {pin.id}: label {label!r} is out of range 0..{classes - 1}.")
    return labels
