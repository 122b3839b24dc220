"""Merging many one-trial files into few, so that the file count of a results folder stays bounded.

A merged file is written under a name that starts with ``_``, which pyarrow.dataset passes over; then the files it replaces are removed; then it
gets its own name. Whoever reads the folder raw may for a moment miss rows but never sees one twice; the store reads the hidden file
too, and whichever process comes next finishes a merge that was killed in the middle. (An object store has no renaming but copies: there a raw reader
may see the rows of a merge twice, in the hidden file, which it passes over, and in the one with its own name.)
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mubench_ray.errors import ResultsError
from mubench_ray.results.storage import Place

#: Files of one trial that may lie about before they are merged, and about how many rows a merged file holds at most.
LOOSE, ROWS = 500, 4_000_000
#: Where a merged file says which files it took the place of.
REPLACES = b"mubench_replaces"


def file_of(trial_id: str, ending: str = ".parquet") -> str:
    """The name of a trial's own file. Raises ResultsError for what is no id: in a folder that comes from elsewhere a path may stand in its place."""
    if not re.fullmatch("[0-9A-Za-z]+", trial_id):
        raise ResultsError(
            f"{trial_id!r} is no trial id, which has letters and digits only: no file is named by it. Remove its row, or the folder if it is not yours."
        )
    return f"{trial_id}{ending}"


def owner_of(name: str) -> str:
    """The trial that a file of its own belongs to: ``<id>.parquet``, or ``<id>-<what>.parquet`` of a table with several files a trial."""
    return Path(name).stem.partition("-")[0]


def loose_files(folder: Place) -> list[str]:
    """Names of the one-trial files of a table."""
    return [
        name
        for name in folder.names()
        if name.endswith(".parquet") and name[0] not in "._" and not name.startswith("part-")
    ]


def is_merged(path: str | Path) -> bool:
    """Whether a file holds merged rows, finished or not."""
    return Path(path).name.lstrip("_").startswith("part-")


def compact(folder: Place, at_least: int = LOOSE) -> int:
    """Merge the one-trial files of a table when there are at least ``at_least``; returns how many were merged. Raises StorageLost."""
    finish_merges(folder)
    loose = loose_files(folder)
    if len(loose) < max(2, at_least):
        return 0
    batch: dict[str, pa.Table] = {}
    rows = 0
    for name in loose:
        batch[name] = read_table(folder, name)
        rows += batch[name].num_rows
        if rows >= ROWS:
            _merge(folder, batch)
            batch, rows = {}, 0
    if batch:
        _merge(folder, batch)
    return len(loose)


def read_table(folder: Place, name: str, columns: list[str] | None = None) -> pa.Table:
    """One Parquet file of a table; raises FileNotFoundError."""
    return folder.tried("read", lambda: read_file(f"{folder.path}/{name}", folder.fs, columns))


def read_file(path: str, where: fs.FileSystem, columns: list[str] | None = None) -> pa.Table:
    """One Parquet file: its own columns, and none that the names of its folders would make (``key=value``)."""
    # pyarrow has no stubs: the type of the argument is guessed from its default, and None is one of its documented values.
    return pq.read_table(path, columns=columns, filesystem=where, partitioning=None)  # pyright: ignore[reportArgumentType]


def finish_merges(folder: Place) -> None:
    """Complete merges that were interrupted: their rows are whole in the hidden file."""
    for name in folder.names():
        if name.startswith("_part-") and name.endswith(".parquet"):
            _adopt(folder, name)


def _merge(folder: Place, tables: dict[str, pa.Table]) -> None:
    numbers = [int(Path(name).stem.split("-")[1]) for name in folder.names() if name.startswith("part-")]
    hidden = f"_part-{1 + max(numbers, default=0)}.parquet"
    merged = pa.concat_tables(tables.values(), promote_options="default")
    for trial_id in merged["trial_id"].unique().to_pylist():
        file_of(trial_id)  # refuses what is no id
    # Which files it replaces is said in it: a row's id does not name the file where a trial has several.
    replaces = {REPLACES: json.dumps(sorted(tables)).encode()}
    folder.write(hidden, merged.replace_schema_metadata({**(merged.schema.metadata or {}), **replaces}))
    _adopt(folder, hidden)


def replaced_by(folder: Place, hidden: str) -> list[str]:
    """Names of the files whose rows a merged file holds."""
    merged = read_table(folder, hidden, columns=["trial_id"])
    told = (merged.schema.metadata or {}).get(REPLACES)
    # A merge that an earlier release began says nothing.
    replaced = json.loads(told) if told else [file_of(trial_id) for trial_id in set(merged["trial_id"].to_pylist())]
    # In a folder from elsewhere a path may stand there.
    return [name for name in replaced if re.fullmatch(r"[0-9A-Za-z]+(-[0-9a-f]+)?\.parquet", name)]


def each_once(folder: Place, names: list[str]) -> list[str]:
    """The files that together hold every row once: of a merge in progress the hidden file, not those that it replaces, or the one that it has become."""
    hidden = [name for name in names if name.startswith("_part-")]
    twice = {name for name in hidden if name[1:] in names}
    return sorted(set(names) - twice - {name for each in hidden for name in replaced_by(folder, each)})


def _adopt(folder: Place, hidden: str) -> None:
    for name in replaced_by(folder, hidden):
        folder.delete(name)
    folder.move(hidden, hidden[1:])
