import torch
from torch.nn import functional as F

from mubench_ray.randomness import torch_generator
from tests.methods.conftest import LR, assert_same, ce, descend, logits


def noise_by_hand(case, steps, lr=0.1, penalty=0.1):
    """Adam, written out, on -CE + penalty |N|^2 of f_O."""
    x, y = case.set("forget")
    noise = torch.randn(x.shape, generator=torch_generator("method", 1, "noise"))
    m, v = torch.zeros_like(noise), torch.zeros_like(noise)
    for t in range(1, steps + 1):
        noise.requires_grad_()
        goal = -F.cross_entropy(logits(case.original, noise), y) + penalty * (noise**2).sum((1, 2, 3)).mean()
        (g,) = torch.autograd.grad(goal, noise)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        noise = noise.detach() - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return noise


def test_impair_on_noise_beside_the_rest_then_repair_at_half_the_rate(case):
    (_, yf), (xr, yr) = case.set("forget"), case.set("retain")
    noise = noise_by_hand(case, 12)
    case.run("unsir", noise_steps=12)
    descend(case.network, ce(case.network, torch.cat([xr, noise]), torch.cat([yr, yf])))
    descend(case.network, ce(case.network, xr, yr), lr=LR / 2)
    assert_same(case.ctx.network, case.network, atol=1e-5)


def test_the_noise_is_hard_for_f_o_and_comes_with_its_own_example_in_any_order(case):
    noise = noise_by_hand(case, 12)
    case.phases("unsir", take=lambda phases: phases[:1], noise_steps=12)
    state, (x, y) = case.ctx.state, case.set("forget")
    assert (apart := (state["noise"] - noise).abs()).max() < 0.01 and apart.median() < 1e-5  # Adam enlarges rounding
    positions = case.ctx.data.rows("forget").positions
    assert torch.equal(state["noise"][state["place"][positions.flip(0)]], state["noise"].flip(0))
    assert ce(case.original, state["noise"], y) > ce(case.original, x, y)


def test_making_the_noise_is_charged(make_case):
    short, long = make_case(), make_case()
    short.run("unsir", noise_steps=10)
    long.run("unsir", noise_steps=20)
    assert long.ctx.meter.examples - short.ctx.meter.examples == 10 * 8
    assert long.ctx.meter.flos > short.ctx.meter.flos
