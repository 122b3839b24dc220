from __future__ import annotations

import pytest

from mubench_ray.forget import SAMPLERS

BASE = {"name": "t", "tasks": {"name": "digits", "subset": 300}, "models": "cnn-small", "methods": ["retrain", "ft"]}
BASE |= {"seeds": [1, 2], "ratios": 10, "lrs": 5e-4, "training": {"epochs": 4}}


@pytest.fixture
def base() -> dict:
    """A suite of four trials, to be changed."""
    return dict(BASE)


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    SAMPLERS.names()
    monkeypatch.setattr(SAMPLERS, "_things", dict(SAMPLERS._things))
    monkeypatch.setattr(SAMPLERS, "_spellings", dict(SAMPLERS._spellings))
