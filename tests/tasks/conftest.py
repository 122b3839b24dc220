"""Every test has its own cache; real data is taken from MUBENCH_DATA or from a folder shared beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Taken before the tests hide it from the loaders.
GIVEN = os.environ.get("MUBENCH_DATA")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no data but a test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MUBENCH_CACHE", str(folder))
    monkeypatch.delenv("MUBENCH_DATA", raising=False)
    return folder


@pytest.fixture
def real_data(repository):
    """A function from a file name to the folder that holds it; the test is skipped where there is none."""

    def folder(name: str) -> Path:
        for place in [*([Path(GIVEN)] if GIVEN else []), repository.parent / "shared" / "data"]:
            if (place / name).exists():
                return place
        pytest.skip(f"{name} is not at hand: set MUBENCH_DATA to a folder that holds it")

    return folder


def left_over(cache: Path) -> list[Path]:
    """Files in the cache, whole or not."""
    return [path for path in cache.rglob("*") if path.is_file()]
