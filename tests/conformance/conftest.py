"""Things with a fault, registered for the length of one test."""

import pytest

from mubench_ray.forget import SAMPLERS
from mubench_ray.methods import METHODS
from mubench_ray.metrics import GROUP_METRICS, METRICS
from mubench_ray.models import MODELS
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.tasks import TASKS
from tests.tasks.conftest import cache, real_data  # noqa: F401 - fixtures


@pytest.fixture
def apart(monkeypatch):
    """What a test registers is gone afterwards."""
    for registry in (TASKS, MODELS, METHODS, METRICS, GROUP_METRICS, OBSERVATIONS, SAMPLERS):
        registry.names()
        for held in ("_things", "_spellings"):
            monkeypatch.setattr(registry, held, dict(getattr(registry, held)))


def faults(findings):
    """What was found wrong: details by name."""
    return {finding.name: finding.detail for finding in findings if not finding.ok}
