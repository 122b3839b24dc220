"""Where data lies, how an archive is read without trusting it, and how a download becomes a file whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mubench_ray.errors import DataError
from mubench_ray.files import hidden, whole

#: Uncompressed size at which an archive is refused: more than any loader reads from one.
LARGEST = 2**30


def cache_root() -> Path:
    """Where conversions and downloads are kept: ``MUBENCH_CACHE``, or a folder in the user's cache."""
    return Path(os.environ.get("MUBENCH_CACHE") or Path.home() / ".cache" / "mubench_ray")


def data_places(data_dir: Path | None, *names: str) -> list[Path]:
    """Where a data set may lie, in order: the folders ``names`` of ``data_dir``, of ``MUBENCH_DATA`` and of the cache, and these themselves."""
    roots = [data_dir] if data_dir else []
    if os.environ.get("MUBENCH_DATA"):
        roots.append(Path(os.environ["MUBENCH_DATA"]))
    return [root / name for root in [*roots, cache_root()] for name in names] + roots


class Archive(NamedTuple):
    """What a data set's authors publish: its address, its checksum (``md5:...`` or ``sha256:...``), and the folder of the cache that it becomes."""

    url: str
    checksum: str
    folder: str


def find(
    task: str,
    data_dir: Path | None,
    names: Iterable[str],
    marker: str | Iterable[str],
    advice: str,
    archive: Archive | None = None,
) -> Path:
    """The first place that holds ``marker`` (a file or folder, or any of several); where none does, the archive is fetched, if there is one.

    Raises DataError with all places, why nothing could be fetched, and what to do.
    """
    markers = [marker] if isinstance(marker, str) else list(marker)
    places = data_places(data_dir, *names)
    for place in places:
        if any((place / name).exists() for name in markers):
            return place
    trouble = ""
    if archive:
        try:
            return fetched(archive)
        except DataError as error:
            trouble = f" {error}"
    looked = ", ".join(str(place) for place in places)
    raise DataError(f"{task}: no {' or '.join(markers)} in {looked}.{trouble} {advice}")


def fetched(archive: Archive) -> Path:
    """The folder of the cache with an archive's content, downloaded and unpacked by one process of this machine, whole or not at all.

    Raises DataError naming the address where it does not answer or answers with something else.
    """
    target = cache_root() / archive.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            packed = download(archive.url, cache_root() / archive.url.rsplit("/", 1)[-1], archive.checksum)
            partial = hidden(target)
            try:
                unpack(packed, partial)
                # Some archives hold one folder of this name, some only its content.
                inner = partial / target.name
                (inner if inner.is_dir() else partial).rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            packed.unlink()
    return target


def unpack(path: Path, folder: Path) -> None:
    """Write an archive's members into a folder; raises DataError for one that is damaged or holds a name that leads out of it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    check_member(path, name)
                archive.extractall(folder)
            return
        with tarfile.open(path) as archive:
            for info in archive:
                check_member(path, info.name)
                archive.extract(info, folder, filter="data")
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{path}: cannot be unpacked ({' '.join(str(error).split())}); fetch it again.") from error


def read_bytes(path: Path) -> bytes:
    """A file's content; raises DataError naming it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def read_text(path: Path) -> str:
    """A UTF-8 file's text; raises DataError naming it."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; fetch it again.") from error


def archive_members(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the members of a zip or tar archive that end in ``suffix``, in order of name; nothing is ever written to disk.

    Raises DataError for an archive that is damaged, holds a name that leads out of it (absolute or with ``..``), or more than
    1 GiB.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = 0
                for info in sorted(archive.infolist(), key=lambda info: info.filename):
                    check_member(path, info.filename)
                    if info.filename.endswith(suffix) and not info.is_dir():
                        check_size(path, info.filename, size := size + info.file_size)
                        yield info.filename, archive.read(info)
            return
        # A compressed tar can only be read from front to back, so it is sorted after reading.
        contents, size = {}, 0
        with tarfile.open(path) as archive:
            for info in archive:
                check_member(path, info.name)
                if info.name.endswith(suffix) and info.isfile():
                    check_size(path, info.name, size := size + info.size)
                    contents[info.name] = read_member(archive, info)
        yield from sorted(contents.items())
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable zip or tar archive ({error}); fetch it again.") from error


def read_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """The content of a file in a tar archive; raises TarError for what is no file."""
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.TarError(f"{info.name!r} is no file")
    return file.read()


def check_member(path: Path, name: str) -> None:
    """Raise DataError for a member name that leads out of its archive."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{path}: holds the unsafe name {name!r}, which leads out of the archive; do not use it.")


def check_size(path: Path, name: str, size: int) -> None:
    """Raise DataError where what was unpacked up to a member is more than a loader reads."""
    if size > LARGEST:
        raise DataError(f"{path}: unpacks to {size:,} bytes up to {name!r}, more than the {LARGEST:,} that are read.")


def download(url: str, target: Path, checksum: str) -> Path:
    """Fetch a file unless it is there; held to ``checksum`` (``md5:...`` or ``sha256:...``), and in place whole or not at all.

    Raises DataError naming the address.
    """
    algorithm, expected = checksum.split(":")
    if target.is_file():
        return target
    try:
        digest = hashlib.new(algorithm)
        with whole(target) as partial:
            with urllib.request.urlopen(url, timeout=20) as response, partial.open("wb") as file:
                while block := response.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != expected:
                raise DataError(f"{url}: has {algorithm} {digest.hexdigest()}, expected {expected}; nothing was kept.")
    except OSError as error:
        raise DataError(f"{url}: did not answer ({error}).") from error
    return target
