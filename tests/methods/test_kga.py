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


def test_a_helper_is_trained_from_scratch_on_its_set_alone(case):
    case.phases("kga", take=lambda phases: phases[:2], helper_epochs=1)
    for name in ("forget", "validation"):
        helper = case.ctx.fresh_network(f"kga {name}").train()
        adam_step(helper, ce(helper, *case.set(name)))
        trained = case.ctx.helper(f"kga {name}").network
        assert not trained.training and not any(p.requires_grad for p in trained.parameters())
        assert_same(trained, helper, atol=1e-4)  # a gradient near Adam's epsilon is that sensitive


def test_one_alignment_step_by_hand(case):
    case.ctx.keep_original()
    descend(case.network, ce(case.network, *case.set("retain")))  # away from f_O, where its KL has no gradient
    case.ctx.network.load_state_dict(case.network.state_dict())
    case.phases("kga", helper_epochs=1, epochs=1, alpha=0.3)
    (xf, _), (xr, _), (xv, _) = case.set("forget"), case.set("retain"), case.set("validation")
    with torch.no_grad():
        extra = kl_by_hand(log_softmax(case.original, xv), log_softmax(case.ctx.helper("kga validation").network, xv))
        only = log_softmax(case.ctx.helper("kga forget").network, xf)
        kept = log_softmax(case.original, xr)
    gap = kl_by_hand(log_softmax(case.network, xf), only)
    descend(case.network, (gap - extra).abs() + 0.3 * kl_by_hand(kept, log_softmax(case.network, xr)))
    assert_same(case.ctx.network, case.network)


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


@pytest.mark.parametrize("extra", [0.0, 5.0])
def test_the_gap_is_aligned_from_above_and_from_below(case, extra):
    case.ctx.keep_original()
    case.ctx.state = {"gap": extra}
    case.ctx.helper("kga forget").freeze()
    only = case.ctx.helper("kga forget").network
    batches = [
        case.ctx.data.batch(rows, torch.arange(len(rows))) for rows in map(case.ctx.data.rows, ("retain", "forget"))
    ]
    descend(case.network, ce(case.network, *case.set("retain")))
    case.ctx.network.load_state_dict(case.network.state_dict())
    with torch.no_grad():
        loss = case.method("kga", alpha=0.3).align(case.ctx, *batches)
        xr, xf = case.set("retain")[0], case.set("forget")[0]
        gap = kl_by_hand(log_softmax(case.network, xf), log_softmax(only, xf))
        kept = kl_by_hand(log_softmax(case.original, xr), log_softmax(case.network, xr))
    assert float(loss) == pytest.approx(abs(float(gap) - extra) + 0.3 * float(kept), abs=1e-5)
