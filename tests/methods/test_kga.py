import copy

import pytest
import torch

from mubench_ray.methods import METHODS
from tests.methods.conftest import assert_same, ce, descend, kl_by_hand, log_softmax

LR = 0.05


def adam_step(network, loss):
    """The first step of Adam: every entry moves by about the learning rate against its gradient's sign."""
    for p, g in zip(network.parameters(), torch.autograd.grad(loss, list(network.parameters()))):
        p.data -= LR * g / (g.abs() + 1e-8)


def test_helpers_and_one_alignment_step_by_hand(case):
    helpers = {}
    for name in ("forget", "validation"):
        helpers[name] = case.ctx.fresh_network(f"kga {name}").train()
        adam_step(helpers[name], ce(helpers[name], *case.set(name)))
        helpers[name].eval()
    case.ctx.keep_original()
    descend(case.network, ce(case.network, *case.set("retain")))  # away from f_O, where its KL has no gradient
    case.ctx.network.load_state_dict(case.network.state_dict())
    (xf, _), (xr, _), (xv, _) = case.set("forget"), case.set("retain"), case.set("validation")
    with torch.no_grad():
        extra = kl_by_hand(log_softmax(case.original, xv), log_softmax(helpers["validation"], xv))
        only = log_softmax(helpers["forget"], xf)
        kept = log_softmax(case.original, xr)
    gap = kl_by_hand(log_softmax(case.network, xf), only)
    descend(case.network, (gap - extra).abs() + 0.3 * kl_by_hand(kept, log_softmax(case.network, xr)))
    case.phases("kga", helper_epochs=1, epochs=1, alpha=0.3)
    for name, helper in helpers.items():
        trained = case.ctx.state[name]
        assert not trained.training and not any(p.requires_grad for p in trained.parameters())
        big = [(p - q).abs().max() for p, q in zip(trained.parameters(), helper.parameters())]
        assert max(big) < 1e-4  # a gradient near Adam's epsilon is that sensitive
    assert float(case.ctx.state["gap"]) == pytest.approx(float(extra), abs=1e-3)
    assert_same(case.ctx.network, case.network, atol=1e-4)


def test_training_the_helpers_leaves_the_network_alone_and_is_charged(case):
    before = copy.deepcopy(case.ctx.network)
    case.phases("kga", take=lambda phases: phases[:2])
    assert_same(case.ctx.network, before, atol=0)
    assert case.ctx.meter.flos > 0 and case.ctx.meter.state_dict()["per_example"].keys() == {
        "helper forget",
        "helper validation",
    }


def test_the_gap_on_the_extra_data_is_charged(case):
    case.run("kga", helper_epochs=1, epochs=1)
    assert "gap" in case.ctx.meter.state_dict()["per_example"]
    assert METHODS.get("kga").uses_validation
