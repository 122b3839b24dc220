import math

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve

from mubench_ray.methods.munba import weights
from mubench_ray.trial import Unlearning
from tests.methods.conftest import LR, assert_same, ce, descend


def gram(g, h):
    return np.array([[g @ g, g @ h], [g @ h, h @ h]])


def bargain(g, h):
    """The positive solution of G a = 1 / a, found numerically."""
    G = gram(g, h)
    start = 1 / np.sqrt(np.diag(G))
    return np.exp(fsolve(lambda u: G @ np.exp(u) - np.exp(-u), np.log(start), xtol=1e-10))


@pytest.mark.parametrize("seed", range(5))
def test_the_weights_solve_the_bargain_and_are_those_of_the_paper_s_closed_form(seed):
    g, h = np.random.default_rng(seed).normal(size=(2, 6)) * [[1], [10.0**seed]]
    one, other = ({"w": torch.tensor(v[:4]), "b": torch.tensor(v[4:])} for v in (g, h))
    a = np.array([float(w) for w in weights(one, other)])
    assert np.allclose(gram(g, h) @ a, 1 / a, rtol=1e-9)
    assert a == pytest.approx(bargain(g, h), rel=1e-6)
    g1, g2, g3 = g @ g, g @ h, h @ h
    first = math.sqrt((g1 * g3 - g2 * math.sqrt(g1 * g3)) / (g1 * g1 * g3 - g1 * g2 * g2))
    assert a == pytest.approx([first, (1 - g1 * first * first) / (g2 * first)], rel=1e-6)
    assert np.linalg.norm(a[0] * g + a[1] * h) == pytest.approx(math.sqrt(2))


def test_opposite_gradients_and_none_strike_no_bargain():
    g = {"w": torch.tensor([1.0, 2.0])}
    for other in (torch.tensor([-2.0, -4.0]), torch.zeros(2)):
        assert [float(w) for w in weights(g, {"w": other})] == pytest.approx([1.0, 0.1])


def test_an_epoch_bargains_for_every_batch_of_the_forget_set_then_keeps_the_rest(case):
    case.run("munba", epochs=2)
    (xf, _), (xr, yr) = case.set("forget"), case.set("retain")
    drawn = [dict(zip(i.tolist(), y.tolist())) for i, forget, y in case.labels if forget.all()]
    assert len(drawn) == 2 and drawn[0] != drawn[1]
    for labels in drawn:
        wrong = torch.tensor([labels[i] for i in case.ctx.data.rows("forget").positions.tolist()])
        parameters = list(case.network.parameters())
        one, other = (torch.autograd.grad(ce(case.network, x, y), parameters) for x, y in ((xr, yr), (xf, wrong)))
        flat = [torch.cat([p.flatten() for p in g]).double().numpy() for g in (one, other)]
        a, b = bargain(*flat)
        for p, g, h in zip(parameters, one, other):
            p.data -= LR * (a * g + b * h).float()
        descend(case.network, ce(case.network, xr, yr))
    assert_same(case.ctx.network, case.network, atol=2e-6)


def test_the_rest_of_an_epoch_is_what_the_forget_set_left_of_it(case):
    case.run("munba", Unlearning(batch_size=4), epochs=1)
    assert [len(y) for _, _, y in case.labels] == [4, 4] * 2 + [4] * 8
