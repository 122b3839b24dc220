import torch
from torch.nn import functional as F

from mubench_ray.methods import METHODS
from mubench_ray.search import ranges
from tests.methods.conftest import assert_same, ce, descend, logits


def test_two_steps_by_hand(case):
    (xf, yf), (xr, yr), beta = case.set("forget"), case.set("retain"), 0.5
    with torch.no_grad():
        reference = log_p(case.original, xf, yf)
    for _ in range(2):
        ratio = (log_p(case.network, xf, yf) - reference).exp()
        preference = (2 / beta) * torch.log(1 + ratio**beta).mean()
        descend(case.network, preference + 0.7 * ce(case.network, xr, yr))
    case.run("npo", epochs=2, beta=beta, gamma=0.7)
    assert_same(case.ctx.network, case.network)


def log_p(network, x, y):
    return -F.cross_entropy(logits(network, x), y, reduction="none")


def test_without_gamma_it_reads_the_forget_set_alone(case):
    case.run("npo", epochs=2, gamma=0)
    assert all(forget.all() for _, forget in case.handed)


def test_for_small_beta_it_is_gradient_ascent(make_case):
    ascent, npo = make_case(), make_case()
    ascent.run("neggrad", epochs=3)
    npo.run("npo", epochs=3, beta=0.05, gamma=0)
    far = max(float((a - b).abs().max()) for a, b in zip(ascent.ctx.network.parameters(), npo.ctx.network.parameters()))
    moved = max(
        float((a - b).abs().max()) for a, b in zip(ascent.ctx.network.parameters(), ascent.original.parameters())
    )
    assert far < 0.05 * moved


def test_the_sum_goes_unsaid_and_only_a_search_that_names_it_searches_the_reduction():
    method = METHODS.get("npo")
    assert method.configure({}).hyperparameters() == {"epochs": 10, "beta": 0.1, "gamma": 1.0}
    assert method.configure({"reduction": "mean"}).hyperparameters()["reduction"] == "mean"
    assert set(ranges("npo", {}, [1e-4], "all", grid=False).spaces) == {"epochs", "beta", "gamma"}
    assert ranges("npo", {}, [1e-4], ["reduction"], grid=False).spaces["reduction"].choices == ("sum", "mean")
