import pytest
import torch

from mubench_ray.methods import METHODS


@pytest.mark.parametrize("name", ["original", "retrain"])
def test_controls_leave_their_network_alone_and_cost_nothing_more(case, name):
    ran = case.run(name)
    assert all(torch.equal(ran.before[key], ran.after[key]) for key in ran.before)
    assert case.ctx.meter.flos == 0 and not ran.truncated
    assert METHODS.get(name).start == ("retrain" if name == "retrain" else "original")
    assert not METHODS.get(name).uses_lr
