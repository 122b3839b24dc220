from __future__ import annotations

import secrets

import pytest

from mubench_ray.engine.cluster import authenticated


@pytest.fixture
def own_token():
    """A cluster that a test starts by itself, and whoever joins it from here, asks for a token: a test opens no door either."""
    with authenticated({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}):
        yield
