"""How names are found: in the package's own files and in what is installed beside it."""

from __future__ import annotations

import pytest

from mubench_ray import registry
from mubench_ray.registry import Registry


class Broken:
    """An entry point of a package that cannot be imported."""

    def load(self):
        raise ImportError("needs a library that is not there")


def test_what_cannot_be_imported_is_said_every_time(monkeypatch):
    """The second time the registry was what had been read so far, and a name beyond that was unknown."""
    monkeypatch.setattr(registry, "entry_points", lambda group: [Broken()])
    methods = Registry("method", "mubench_ray.methods")
    for _ in range(2):
        with pytest.raises(ImportError, match="needs a library"):
            methods.get("ft")
