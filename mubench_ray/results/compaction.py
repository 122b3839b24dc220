"""Merging many one-trial files into few, so that the file count of a results folder stays bounded.

A merged file is written under a name that starts with ``_``, which pyarrow.dataset passes over; then the files it replaces are removed; then it
gets its own name. Whoever reads the folder raw may for a moment miss rows but never sees one twice; the store reads the hidden file
too, and whichever process comes next finishes a merge that was killed in the middle.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: Files of one trial that may lie about before they are merged, and rows that a merged file holds at most (by table).
LOOSE = 500
ROWS = 4_000_000


def loose_files(folder: Path) -> list[Path]:
    """The one-trial files of a table."""
    return sorted(
        path for path in folder.glob("*.parquet") if path.name[0] not in "._" and not path.name.startswith("part-")
    )


def is_merged(path: str | Path) -> bool:
    """Whether a file holds merged rows, finished or not."""
    return Path(path).name.lstrip("_").startswith("part-")


def compact(folder: Path, at_least: int = LOOSE) -> int:
    """Merge the one-trial files of a table when there are at least ``at_least``; returns how many were merged."""
    finish_merges(folder)
    loose = loose_files(folder)
    if len(loose) < max(2, at_least):
        return 0
    batch: list[Path] = []
    rows = 0
    for path in loose:
        batch.append(path)
        rows += pq.read_metadata(path).num_rows
        if rows >= ROWS:
            _merge(folder, batch)
            batch, rows = [], 0
    if batch:
        _merge(folder, batch)
    return len(loose)


def finish_merges(folder: Path) -> None:
    """Complete merges that were interrupted: their rows are whole in the hidden file."""
    for hidden in sorted(folder.glob("_part-*.parquet")):
        _adopt(folder, hidden)


def _merge(folder: Path, files: list[Path]) -> None:
    number = 1 + max((int(path.stem.split("-")[1]) for path in folder.glob("part-*.parquet")), default=0)
    table = pa.concat_tables([pq.read_table(path) for path in files], promote_options="default")
    partial = folder / f".part-{number}"
    pq.write_table(table, partial, compression="zstd", row_group_size=131_072)
    hidden = folder / f"_part-{number}.parquet"
    partial.replace(hidden)
    _adopt(folder, hidden)


def _adopt(folder: Path, hidden: Path) -> None:
    for trial_id in set(pq.read_table(hidden, columns=["trial_id"])["trial_id"].to_pylist()):
        (folder / f"{trial_id}.parquet").unlink(missing_ok=True)
    hidden.replace(folder / hidden.name[1:])
