import numpy as np
import pytest

from mubench_ray.errors import MubenchError
from mubench_ray.metrics.group import GROUP_METRICS, GroupMetric, Part, compute_group, group_metric


@pytest.fixture
def registered(monkeypatch):
    """A registry that forgets what a test adds to it."""
    GROUP_METRICS.names()
    for table in ("_things", "_spellings"):
        monkeypatch.setattr(GROUP_METRICS, table, dict(getattr(GROUP_METRICS, table)))
    return GROUP_METRICS


def test_parameters_without_a_default_are_needs_and_the_others_options(registered):
    @group_metric("spread", over=["seed"], parts={"value": Part("lower")}, cites="a test", minimum={"trials": 2})
    def spread(test_loss: np.ndarray, scale: float = 1.0) -> dict[str, float]:
        """How far seeds are apart."""
        return {"value": scale * np.ptp(test_loss)}

    metric = registered.get("spread")
    assert isinstance(metric, GroupMetric) and metric.needs == ("test_loss",) and metric.options == {"scale": 1.0}
    observed = {"test_loss": [1.0, 3.0], "trial_fold": [1, 2]}
    assert compute_group("spread", observed) == ({"value": 2.0}, None)
    assert compute_group("spread", observed, {"scale": 3.0}) == ({"value": 6.0}, None)
    assert compute_group("spread", {**observed, "trial_fold": [1]}) == (
        {"value": None},
        "needs at least 2 trials, there are 1",
    )
    assert spread(np.array([1.0, 4.0])) == {"value": 3.0}  # an ordinary function still


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(MubenchError, match=r"'margn'.*margin"):
        compute_group("deletion_capacity", {}, {"margn": 1})
    with pytest.raises(MubenchError, match="has none"):
        compute_group("klom", {}, {"margin": 1})


def test_a_senseless_declaration_is_refused():
    with pytest.raises(MubenchError, match="lr"):
        group_metric("x", over=["lr"], parts={}, cites="")
    with pytest.raises(MubenchError, match="networks"):
        group_metric("x", over=["seed"], parts={}, cites="", minimum={"networks": 3})
