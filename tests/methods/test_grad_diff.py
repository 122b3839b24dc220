import pytest
import torch

from mubench_ray.methods import METHODS
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend, kl_by_hand, log_softmax


@pytest.mark.parametrize("given", [{}, {"gamma": 0.3}])
def test_one_step_ascends_and_descends_one_to_one(case, given):
    (xf, yf), (xr, yr) = case.set("forget"), case.set("retain")
    forgotten = -log_softmax(case.network, xf)[range(8), yf].mean()  # D_F passes first: so do the statistics
    descend(case.network, given.get("gamma", 1) * ce(case.network, xr, yr) - forgotten)
    case.run("grad_diff", Unlearning(optimizer="sgd", momentum=0.0, batch_size=64), epochs=1, **given)
    assert all(
        torch.allclose(p, q, atol=1e-6) for p, q in zip(case.ctx.network.parameters(), case.network.parameters())
    )


def test_what_is_kept_may_be_the_originals_opinion(case):
    (xf, yf), (xr, _) = case.set("forget"), case.set("retain")
    kept = kl_by_hand(log_softmax(case.original, xr), log_softmax(case.network, xr))
    descend(case.network, 0.5 * kept - ce(case.network, xf, yf))
    case.run("grad_diff", epochs=1, retain="kl", gamma=0.5)
    assert_same(case.ctx.network, case.network)


def test_it_is_no_other_name_of_ng_plus_and_an_epoch_is_a_pass_over_the_forget_set(case):
    assert METHODS.canonical("grad_diff") == "grad_diff"
    case.run("grad_diff", Unlearning(batch_size=4), epochs=1)
    assert [(len(index), bool(forget.all())) for index, forget in case.handed] == [(4, False), (4, True)] * 2
