"""Data converted once to an Arrow file that every process on a node maps: no trial decodes a JPEG, WAV or AVI again.

The file is Arrow IPC without compression, ``CHUNK`` rows a record batch, so that a column of a batch is one plain array in the page cache.
It is named by a hash of what it was made from and appears whole or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.files import whole
from mubench_ray.tasks.examples import MappedColumn, MappedExamples
from mubench_ray.tasks.files import cache_root
from mubench_ray.trial import digest

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of a record batch.
CHUNK = 256

Row = dict[str, np.ndarray | int]


def converted(name: str, made_from: object, rows: Callable[[], Iterable[Row]]) -> MappedExamples:
    """The examples that ``rows`` yields, read from the cache where an earlier call wrote them.

    ``made_from`` is anything JSON holds that names the content: source files with sizes, options, a version. Each row maps column names to
    arrays of one shape and type a column, or to integers; integers (``labels``, ``source_index``) are kept in memory.
    Raises DataError where the cache cannot be written; what ``rows`` raises leaves nothing behind.
    """
    target = cache_root() / "converted" / f"{name}-{digest(made_from)}.arrow"
    if not target.is_file():
        _write(target, rows())
    return _map(target)


def fingerprint(root: Path, files: Iterable[Path]) -> list[list]:
    """Names, sizes and times of source files, as ``made_from``; raises DataError for one that is missing."""
    listed = []
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
        listed.append([path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns])
    return listed


def _write(target: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa

    try:
        writer = None
        with whole(target) as partial, contextlib.ExitStack() as stack:
            for chunk in _chunks(rows):
                batch = _batch(chunk)
                if writer is None:
                    writer = stack.enter_context(pa.ipc.new_file(str(partial), batch.schema))
                writer.write_batch(batch)
            if writer is None:
                raise DataError(f"{target.name}: the source holds no examples.")
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}); set MUBENCH_CACHE to a folder with room."
        ) from error


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _batch(chunk: list[Row]) -> pa.RecordBatch:
    import pyarrow as pa

    fields, arrays = [], []
    for name, first in chunk[0].items():
        values = np.stack([np.asarray(row[name]) for row in chunk])
        flat = pa.array(values.reshape(-1))
        shape = values.shape[1:]
        if shape:
            flat = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)))
        arrays.append(flat)
        fields.append(pa.field(name, flat.type, metadata={"shape": ",".join(map(str, np.shape(first)))}))
    return pa.record_batch(arrays, schema=pa.schema(fields))


def _map(path: Path) -> MappedExamples:
    import pyarrow as pa

    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    columns, mapped = {}, {}
    for place, spec in enumerate(reader.schema):
        parts = [batch.column(place) for batch in batches]
        if shape := [int(side) for side in spec.metadata[b"shape"].decode().split(",") if side]:
            mapped[spec.name] = MappedColumn([part.flatten().to_numpy().reshape(-1, *shape) for part in parts], CHUNK)
        else:
            columns[spec.name] = torch.from_numpy(np.concatenate([part.to_numpy() for part in parts]))
    source_index = columns.pop("source_index")
    return MappedExamples(columns, source_index, mapped, torch.arange(len(source_index)))
