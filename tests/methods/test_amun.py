import math

import pytest
import torch

from tests.methods.conftest import Pictures, assert_same, ce, descend, logits

MEAN, STD = Pictures.mean[0], Pictures.std[0]


@pytest.fixture
def case(case):
    """A network whose classes depend on the picture and are mostly right on D_F, its teacher the same."""
    x, y = case.set("forget")
    network = case.ctx.network.eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    while (loss := ce(network, x, y)) > 0.2:  # not further: rounding decides where a sure network's gradient points
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    case.network.load_state_dict(network.state_dict())
    case.original.load_state_dict(network.state_dict())
    return case


def attacked(case, radius, steps):
    """One example at a time, in pixels of [0, 1]."""
    xs, ys = case.set("forget")
    found, called = [], []
    for x, y in zip(xs, ys):
        start = (x * STD + MEAN)[None]
        at, r = start.clone(), radius
        while True:
            for _ in range(steps):
                at.requires_grad_()
                out = logits(case.original, (at - MEAN) / STD)
                label = int(out.argmax())
                if label != int(y):
                    break
                (g,) = torch.autograd.grad(ce(case.original, (at - MEAN) / STD, y[None]), at)
                away = at.detach() + r / 10 * g / g.norm() - start
                at = (start + away * min(1.0, r / float(away.norm()))).clamp(0, 1)
            else:
                r *= 2
                assert r < math.sqrt(64), "the test needs pictures that can be crossed"
                continue
            break
        found.append((at.detach()[0] - MEAN) / STD)
        called.append(label)
    return torch.stack(found), torch.tensor(called)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_step_on_the_data_and_the_nearest_pictures_that_f_o_calls_something_else(case, keeps):
    (xf, yf), (xr, yr) = case.set("forget"), case.set("retain")
    pictures, labels = attacked(case, 0.1, 10)
    assert (labels != yf).all() and len({float((a - b).norm()) for a, b in zip(pictures, xf)}) > 4
    case.run("amun", epochs=1, radius=0.1, steps=10, forget=keeps)
    assert torch.allclose(case.ctx.state["pictures"], pictures, atol=1e-4)
    assert torch.equal(case.ctx.state["labels"], labels)
    parts = [(xr, yr), (pictures, labels)] + ([(xf, yf)] if keeps else [])
    x, y = (torch.cat(part) for part in zip(*parts))
    descend(case.network.train(), ce(case.network, x, y))
    assert_same(case.ctx.network, case.network, atol=1e-5)


def test_a_network_that_never_changes_its_mind_gets_its_second_class(case):
    case.ctx.keep_original()
    with torch.no_grad():
        head = list(case.ctx.original.modules())[-1]
        head.weight.zero_()
        head.bias.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    case.method("amun", radius=2.0, steps=5).attack(case.ctx)
    _, y = case.set("forget")
    assert case.ctx.state["labels"].tolist() == [1 if label == 0 else 0 for label in y.tolist()]


def test_the_attack_is_charged_by_the_pictures_that_are_left(case):
    case.ctx.keep_original()
    case.ctx.meter.start()
    case.method("amun", radius=0.1, steps=10).attack(case.ctx)
    assert case.ctx.meter.flos > 0 and case.ctx.meter.examples > 8
