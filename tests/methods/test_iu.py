import pytest
import torch
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.methods import iu
from mubench_ray.trial import Unlearning
from tests.methods.conftest import ce, logits


def gradient(network, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]).double()


def test_the_step_solves_the_newton_equation_with_the_influence_of_the_forget_set(case):
    ran = case.run("iu", Unlearning(batch_size=7), alpha=3.0, samples=25)
    network = case.network.eval()
    (xf, yf), (xr, yr) = case.set("forget"), case.set("retain")
    summed = [F.cross_entropy(logits(network, x), y, reduction="sum") for x, y in ((xf, yf), (xr, yr))]
    v = gradient(network, summed[0]) / 48 - 8 / (48 * 40) * gradient(network, summed[1])
    names = [name for name, _ in network.named_parameters()]
    step = torch.cat([(ran.after[n].double() - ran.before[n].double()).flatten() for n in names]) / 3.0
    ones = [index for index, _ in case.handed if len(index) == 1][-25:]
    assert len({int(i) for i in ones}) == 25
    G = torch.stack([gradient(network, ce(network, *case.at(i))) for i in ones])
    assert torch.allclose(step + G.T @ (G @ step) / 25, v, atol=1e-6)  # (I + mean of g g^T) step = v
    assert not torch.allclose(step, v, atol=1e-4)  # the inverse matters


def test_statistics_stay_and_at_most_all_of_the_retain_set_is_sampled(case):
    ran = case.run("iu")
    assert all(torch.equal(ran.before[n], ran.after[n]) for n, _ in case.network.named_buffers())
    ones = [int(i) for i, _ in case.handed if len(i) == 1]
    assert sorted(ones) == case.ctx.data.rows("retain").positions.tolist()


def test_gradients_that_would_not_fit_are_refused_before_any_work(case, monkeypatch):
    monkeypatch.setattr(iu, "MOST_BYTES", 10**6)
    with pytest.raises(MubenchError, match="lower it"):
        case.run("iu")
    assert not case.handed
