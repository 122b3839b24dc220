"""Where a run's files lie: a folder that this machine mounts, or an object store (``s3://``, ``gs://``) through pyarrow.fs.

A file is written whole or not at all: in a folder under a hidden name that is synced and renamed, in an object store by a put. What an object store
does not answer is tried again for a while; then StorageLost says that the same command goes on. Credentials, region and endpoint of an object store
come from the environment (``AWS_ACCESS_KEY_ID``, ...) or the address: ``s3://bucket/results?endpoint_override=127.0.0.1:9000&scheme=http``.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mubench_ray.errors import ResultsError, message_of
from mubench_ray.files import whole, write

R = TypeVar("R")

#: Seconds that an object store may be away before a run gives up, unless MUBENCH_STORAGE_PATIENCE says otherwise.
PATIENCE = 180.0
#: What no waiting mends, as AWS and pyarrow name it.
FINAL = (
    "ACCESS_DENIED",
    "NO_SUCH_BUCKET",
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_CLIENT",
    "Bucket not found",
)
#: Bytes a read of an upload.
CHUNK = 16 * 2**20


class StorageLost(ResultsError):
    """The place that a run writes to cannot be reached or is full: nothing half is written, and the same command goes on."""


def is_remote(where: str | Path) -> bool:
    """Whether this is the address of an object store."""
    scheme, sign, _ = str(where).partition("://")
    return bool(sign) and scheme != "file"


def absolute(where: str | Path) -> str:
    """The same place said so that it means the same from any working folder."""
    return str(where) if is_remote(where) else str(Path(str(where).removeprefix("file://")).absolute())


def shown(where: str | Path) -> str:
    """A place without keys and options, as it may be printed and stored."""
    if not is_remote(where):
        return str(where)
    parts = urlsplit(str(where))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def cache() -> Path:
    """Where copies from object stores lie on this machine."""
    return Path(os.environ.get("MUBENCH_CACHE") or Path.home() / ".cache" / "mubench")


@functools.lru_cache(maxsize=16)
def opened(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address and the path in it."""
    return fs.FileSystem.from_uri(address)


class Place:
    """A folder or the part of an object store below a prefix; files are named relative to it, with ``/`` between the parts.

    ``address`` opens the place again, keys and options included; ``home`` is a folder on this machine: the place itself, or what stands beside an object
    store here (copies of weights, MLflow's database, the report).
    """

    def __init__(self, where: str | Path) -> None:
        self.remote = is_remote(where)
        self.address = str(where)
        if self.remote:
            if self.address.startswith("s3://") and "allow_delayed_open" not in self.address:
                # A small file is then one put, not the three requests of an upload in parts.
                self.address += ("&" if "?" in self.address else "?") + "allow_delayed_open=true"
            try:
                # Without a region in the address the bucket itself is asked for it.
                self.fs, path = self._tried("opened", "", lambda: opened(self.address))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ResultsError(
                    f"{self}: not an address of an object store that pyarrow can open: {error}"
                ) from error
            self.path = path.rstrip("/")
            self.home = (
                cache() / f"{self.path.rpartition('/')[2]}-{hashlib.sha256(self.path.encode()).hexdigest()[:12]}"
            )
        else:
            self.home = Path(self.address.removeprefix("file://"))
            self.fs, self.path = fs.LocalFileSystem(), str(self.home)

    def __str__(self) -> str:
        """The place without keys and options."""
        return shown(self.address)

    def inside(self, name: str) -> Place:
        """A folder in it."""
        inside = copy.copy(self)
        head, sign, options = self.address.partition("?") if self.remote else (self.address, "", "")
        inside.address = f"{head.rstrip('/')}/{name}{sign}{options}"
        inside.home, inside.path = self.home / name, f"{self.path}/{name}"
        return inside

    # Writing

    def write(self, name: str, content: bytes | str | pa.Table) -> None:
        """Write a file whole or not at all: bytes, text, or a table as Parquet. Raises StorageLost."""
        if isinstance(content, pa.Table):
            sink = pa.BufferOutputStream()
            pq.write_table(content, sink, compression="zstd", row_group_size=131_072)
            content = sink.getvalue()
        elif isinstance(content, str):
            content = content.encode()
        if self.remote:
            return self._tried("written", name, lambda: self._put(name, content))
        path = self.home / name
        try:
            write(path, content)
        except OSError as error:
            raise StorageLost(f"{path} cannot be written ({error.strerror or error}). {GO_ON}") from error

    def _put(self, name: str, content: bytes | pa.Buffer) -> None:
        with self.fs.open_output_stream(self._of(name)) as stream:
            stream.write(content)

    def upload(self, source: Path, name: str) -> None:
        """Copy a file of this machine here."""

        def put() -> None:
            with source.open("rb") as file, self.fs.open_output_stream(self._of(name)) as stream:
                while chunk := file.read(CHUNK):
                    stream.write(chunk)

        self._tried("written", name, put)

    def move(self, old: str, new: str) -> None:
        """Give a file another name; one that has it makes way. In an object store both exist for a moment."""
        if self.remote:
            self._tried("moved", old, lambda: self.fs.move(self._of(old), self._of(new)))
        else:
            (self.home / old).replace(self.home / new)

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        if not self.remote:
            (self.home / name).unlink(missing_ok=True)
        elif self.exists(name):
            self._tried("removed", name, lambda: self.fs.delete_file(self._of(name)))

    # Reading

    def read(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError."""
        if not self.remote:
            return (self.home / name).read_bytes()
        return self._tried("read", name, lambda: self._get(name))

    def _get(self, name: str) -> bytes:
        with self.fs.open_input_stream(self._of(name)) as stream:
            return stream.read()

    def download(self, name: str, target: Path) -> None:
        """Copy a file to this machine; raises FileNotFoundError."""

        def get() -> None:
            with self.fs.open_input_stream(self._of(name)) as stream, target.open("wb") as file:
                while chunk := stream.read(CHUNK):
                    file.write(chunk)

        self._tried("read", name, get)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        if not self.remote:
            return (self.home / name).is_file()
        return self._tried("read", name, lambda: self.fs.get_file_info(self._of(name)).type == fs.FileType.File)

    def names(self, folder: str = "") -> list[str]:
        """Names of the files that lie directly in a folder, sorted; none where it does not exist."""
        if not self.remote:
            try:
                return sorted(entry.name for entry in os.scandir(self.home / folder) if entry.is_file())
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(info.base_name for info in self._infos(folder, recursive=False))

    def _infos(self, folder: str, recursive: bool) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._of(folder), recursive=recursive, allow_not_found=True)
        infos = self._tried("read", folder, lambda: self.fs.get_file_info(selector))
        return [info for info in infos if info.type == fs.FileType.File]

    def mirror(self, without: tuple[str, ...] = ("artifacts", "progress", ".engine", ".train")) -> Path:
        """A folder of this machine with the same files, but for some folders: ``home`` brought up to date."""
        if not self.remote:
            return self.home
        there = {info.path[len(self.path) + 1 :]: info for info in self._infos("", recursive=True)}
        there = {name: info for name, info in there.items() if name.split("/")[0] not in without}
        for folder in {name.rpartition("/")[0] for name in there}:
            for path in (self.home / folder).glob("*.parquet"):
                if f"{folder}/{path.name}".lstrip("/") not in there:
                    path.unlink()  # merged into another file since
        for name, info in there.items():
            path = self.home / name
            if path.is_file() and (path.stat().st_size, int(path.stat().st_mtime)) == (
                info.size,
                int(info.mtime.timestamp()),
            ):
                continue
            with whole(path) as partial:
                self.download(name, partial)
                os.utime(partial, (time.time(), info.mtime.timestamp()))
        return self.home

    def publish(self, folder: str) -> None:
        """Copy a folder of ``home`` to the object store; nothing to do where the place is a folder itself."""
        for path in sorted((self.home / folder).rglob("*")) if self.remote else []:
            if path.is_file():
                self.upload(path, path.relative_to(self.home).as_posix())

    def clear(self) -> None:
        """Remove the place with all that is in it."""
        shutil.rmtree(self.home, ignore_errors=True)
        if self.remote and (infos := self._infos("", recursive=True)):
            for info in infos:
                self.delete(info.path[len(self.path) + 1 :])

    def for_ray(self) -> dict[str, Any]:
        """What a RunConfig of Ray's needs to keep its own files here."""
        return {"storage_path": self.path, "storage_filesystem": self.fs if self.remote else None}

    # Waiting

    def tried(self, what: str, work: Callable[[], R]) -> R:
        """Do ``work`` with the files of this place, again and again while an object store does not answer. Raises StorageLost."""
        return self._tried(what, "", work) if self.remote else work()

    def _tried(self, what: str, name: str, work: Callable[[], R]) -> R:
        patience = float(os.environ.get("MUBENCH_STORAGE_PATIENCE") or PATIENCE)
        began, pause = time.monotonic(), 0.5
        while True:
            try:
                return work()
            except (FileNotFoundError, pa.ArrowInvalid):
                raise
            except OSError as error:
                waited = time.monotonic() - began
                text = message_of(error)
                if waited + pause > patience or any(word in text for word in FINAL):
                    which = f"{self}/{name}".rstrip("/")
                    raise StorageLost(
                        f"{which} cannot be {what} ({text[:200]}; tried for {waited:.0f} s). {GO_ON}"
                    ) from error
                time.sleep(pause)
                pause = min(10.0, 2 * pause)

    def _of(self, name: str) -> str:
        return f"{self.path}/{name}".rstrip("/")


#: What every StorageLost ends with.
GO_ON = "What is written is whole; when the storage can be written again the same command goes on."
