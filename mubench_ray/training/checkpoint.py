"""A run's own checkpoint: what it needs to go on in another process as if nothing had happened, the bill included."""

from __future__ import annotations

import contextlib
import time
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from mubench_ray.errors import harmless
from mubench_ray.files import whole


@runtime_checkable
class Stateful(Protocol):
    """What has a state of its own that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


class Checkpoint:
    """One file, written whole or not at all, at most every ``every`` seconds: a run that is over sooner never writes it.

    The folder may be shared with others, so that the file holds tensors, numbers, strings and containers of them alone, and reading it runs nothing.
    """

    def __init__(self, path: str | Path, every: float = 300.0) -> None:
        self.path, self.every = Path(path), every
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.every

    def save(self, content: dict[str, Any]) -> None:
        """Write the content. Where it holds more than ``plain`` allows, only what was spent: the run then starts anew, but not for free.

        That is a warning, and so is what the storage refuses (a full disk): the run itself can go on.
        """
        of = {"of": self.path.stem}
        try:
            kept = plain(content | of)
        except TypeError as error:
            self._warn(f"the method's state cannot be saved ({error}); where the run is interrupted it starts anew.")
            kept = plain({"meter": content["meter"], "position": None} | of)
        try:
            self._write(kept)
        except (OSError, RuntimeError) as error:
            self._warn(f"the checkpoint could not be written ({error}); the run goes on.")
        self._last = time.monotonic()

    def load(self, device: str = "cpu") -> dict[str, Any] | None:
        """What was saved, tensors of an accelerator on ``device``; None where nothing was, or what is there is damaged or another run's: it is set aside."""

        def place(storage: Any, location: str) -> Any:
            return storage if location == "cpu" else torch.serialization.default_restore_location(storage, device)

        try:
            with zipfile.ZipFile(self.path) as file:  # torch does not look at its sums
                if wrong := file.testzip():
                    raise ValueError(f"{wrong} in it is damaged")
            content = torch.load(self.path, map_location=place, weights_only=True)
        except FileNotFoundError:
            return None
        except OSError:  # the storage, not the file
            raise
        except Exception as error:  # noqa: BLE001 - whatever its bytes make of the reader
            return self.set_aside(str(error))
        if not isinstance(content, dict) or content.pop("of", None) != self.path.stem:
            return self.set_aside("it is not this run's")
        return content

    def set_aside(self, reason: str) -> None:
        """Put away a file that the run cannot go on from, and say so."""
        aside = self.path.with_name(f"{self.path.name}.unusable")
        reason = " ".join(reason.split())[:200].rstrip(".")
        self._warn(
            f"the checkpoint cannot be used ({reason}); it is {aside.name} now, and the run starts from the beginning."
        )
        with contextlib.suppress(FileNotFoundError):  # another process of this run did
            self.path.replace(aside)

    def remove(self) -> None:
        """The run is over and its result is written."""
        self.path.unlink(missing_ok=True)

    def _warn(self, what: str) -> None:
        warnings.warn(harmless(f"{self.path}: {what}"), stacklevel=3)

    def _write(self, content: dict[str, Any]) -> None:
        with whole(self.path) as partial:
            torch.save(content, partial)


def plain(content: Any, where: str = "") -> Any:
    """The content with dictionaries for ordered ones and numbers for NumPy's; raises TypeError for what reading would need code for, naming where it is."""
    if content is None or type(content) in (bool, int, float, str, bytes, Tensor, nn.Parameter):
        return content
    if isinstance(content, np.generic):
        return content.item()
    if type(content) in (dict, OrderedDict):
        return {key: plain(value, f"{where}[{key!r}]") for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(plain(value, f"{where}[{number}]") for number, value in enumerate(content))
    raise TypeError(f"{where} is of type {type(content).__name__}")
