import pytest
import torch

from mubench_ray.errors import MubenchError
from tests.methods.conftest import ce


def importance(case, name):
    """Mean over the set of the squared gradient of the loss, example by example, in eval mode."""
    network = case.network.eval()
    x, y = case.set(name)
    total = [torch.zeros_like(p) for p in network.parameters()]
    for i in range(len(x)):
        for t, g in zip(
            total, torch.autograd.grad(ce(network, x[i : i + 1], y[i : i + 1]), list(network.parameters()))
        ):
            t += g**2
    return [t / len(x) for t in total]


@pytest.mark.parametrize(("alpha", "dampening"), [(2.0, 1.0), (1.2, 0.3)])
def test_weights_that_matter_more_to_the_forget_set_shrink_and_no_others(case, alpha, dampening):
    forget, retain = importance(case, "forget"), importance(case, "retain")
    everything = [(8 * f + 40 * r) / 48 for f, r in zip(forget, retain)]
    ran = case.run("ssd", alpha=alpha, dampening=dampening)
    chosen = 0
    for (name, p), f, d in zip(case.network.named_parameters(), forget, everything):
        factor = torch.where(f > alpha * d, torch.clamp(dampening * d / f, max=1.0), 1.0)
        assert torch.allclose(ran.after[name], p * factor, atol=1e-6), name
        certain = f < alpha * d * (1 - 1e-4)
        assert torch.equal(ran.after[name][certain], ran.before[name][certain])
        chosen += int((factor < 1).sum())
    assert chosen > 100
    assert all(torch.equal(ran.before[n], ran.after[n]) for n, _ in case.network.named_buffers())


def test_an_alpha_that_can_choose_nothing_is_refused(case):
    with pytest.raises(MubenchError, match=r"at most N / \|D_F\| = 6"):
        case.run("ssd", alpha=6.0)


def test_no_weight_exceeds_that_bound(case):
    forget, retain = importance(case, "forget"), importance(case, "retain")
    assert all((f <= 6 * (8 * f + 40 * r) / 48 * (1 + 1e-5)).all() for f, r in zip(forget, retain))
