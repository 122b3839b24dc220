"""A run's own checkpoint: what it needs to go on in another process as if nothing had happened, the bill included."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import torch

#: What saving raises of a method's state that cannot be pickled (a network whose weights are computed, a generator, a lambda).
UNSAVEABLE = (pickle.PicklingError, TypeError, AttributeError, NotImplementedError, RuntimeError)


class Checkpoint:
    """One file, written whole or not at all, at most every ``every`` seconds: a run that is over sooner never writes it."""

    def __init__(self, path: str | Path, every: float = 300.0) -> None:
        self.path, self.every = Path(path), every
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.every

    def save(self, content: dict[str, Any]) -> None:
        """Write the content. If it cannot be pickled, only what was spent: the run then starts anew, but not for free.

        What the storage refuses (a full disk) is a warning: the run itself can go on.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._write(content)
            except UNSAVEABLE:
                self._write({"meter": content["meter"], "position": None})
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                self._partial.unlink()
            warnings.warn(f"{self.path}: the checkpoint could not be written ({error}); the run goes on.", stacklevel=2)
        self._last = time.monotonic()

    def load(self, device: str = "cpu") -> dict[str, Any] | None:
        """What was saved, tensors of an accelerator on ``device``; None where nothing was. Only this machinery writes the file, so it is unpickled whole."""

        def place(storage: Any, location: str) -> Any:
            return storage if location == "cpu" else torch.serialization.default_restore_location(storage, device)

        if not self.path.is_file():
            return None
        return torch.load(self.path, map_location=place, weights_only=False)

    def remove(self) -> None:
        """The run is over and its result is written."""
        self.path.unlink(missing_ok=True)

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}")

    def _write(self, content: dict[str, Any]) -> None:
        with self._partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        self._partial.replace(self.path)
