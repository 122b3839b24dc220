"""Files of this machine, as every room writes and reads them: whole or not at all, known by their hash, JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def hidden(path: Path) -> Path:
    """Where this process makes what is to be ``path``, a file or a folder: beside it, under a name that nobody takes for it."""
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a hidden path to write a file to, which takes the place of ``path`` when the block ends, synced; where the block raises nothing of it is left."""
    partial = hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # it was not begun, or its storage is gone
            partial.unlink()
        raise


def write(path: Path, content: Any) -> None:
    """Write a file whole or not at all: text, or bytes in any form. Raises OSError."""
    with whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(path: str | Path) -> str:
    """Of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises OSError, and ValueError where it is none."""
    return json.loads(path.read_bytes())
