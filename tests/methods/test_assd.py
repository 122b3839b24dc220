import math

import pytest
import torch

from tests.methods.conftest import ce


def ratios(case):
    """F_forget and F_all of every parameter: mean squared gradients of the loss, example by example, in eval mode."""
    network, found = case.network.eval(), []
    for name in ("forget", "retain"):
        x, y = case.set(name)
        rows = [torch.autograd.grad(ce(network, x[[i]], y[[i]]), list(network.parameters())) for i in range(len(y))]
        found.append([torch.stack(gradients).square().mean(0).double() for gradients in zip(*rows)])
    return found[0], [(8 * f + 40 * r) / 48 for f, r in zip(*found)]


@pytest.mark.parametrize("dampening", [1.0, 0.3])
def test_the_share_that_is_dampened_follows_from_the_size_of_the_forget_set(case, dampening):
    forget, everything = ratios(case)
    every = torch.cat([(f / d).flatten() for f, d in zip(forget, everything)])
    every = every[every.isfinite()].sort().values
    share = math.log(1 + 100 * 8 / 48) / 100
    place = (1 - share) * (len(every) - 1)  # linear between its two neighbours
    low, high = every[math.floor(place)], every[math.ceil(place)]
    alpha = float(low + (place - math.floor(place)) * (high - low))
    ran = case.run("assd", dampening=dampening)
    chosen = 0
    for (name, p), f, d in zip(case.network.named_parameters(), forget, everything):
        unclear = (f - alpha * d).abs() < 1e-4 * d
        factor = torch.where(f > alpha * d, torch.clamp(dampening * d / f, max=1.0), 1.0)
        assert torch.allclose(ran.after[name][~unclear].double(), (p * factor)[~unclear], atol=1e-6), name
        chosen += int((f > alpha * d).sum())
    assert chosen == pytest.approx(share * len(every), abs=2)
    assert all(torch.equal(ran.before[n], ran.after[n]) for n, _ in case.network.named_buffers())
