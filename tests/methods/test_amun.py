import math

import pytest
import torch

from mubench_ray.conformance.bench import bench, run
from mubench_ray.trial import Unlearning
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
    place = case.ctx.state["place"][case.ctx.data.rows("forget").positions]
    assert torch.allclose(case.ctx.state["pictures"][place], pictures, atol=1e-4)
    assert torch.equal(case.ctx.state["labels"][place], labels)
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
    rows = case.ctx.data.rows("forget")
    forget = case.ctx.data.batch(rows, torch.arange(len(rows)))
    _, labels = case.method("amun", radius=2.0, steps=5).crossed(case.ctx, forget)
    assert labels.tolist() == [1 if label == 0 else 0 for label in forget["labels"].tolist()]


def test_the_attack_is_charged_by_the_pictures_that_are_left(case):
    """The longer their way, the more."""
    spent = []
    for radius, steps in ((0.4, 5), (1.6, 5)):
        case.ctx.meter.load_state_dict({"flos": 0.0, "examples": 0, "per_example": {}, "seconds": 0.0})
        case.ctx.state.clear()
        case.phases("amun", take=lambda phases: phases[:1], radius=radius, steps=steps)
        spent.append(case.ctx.meter.flos)
    assert spent[0] > 1.2 * spent[1] > 0


def test_where_the_budget_leaves_some_unattacked_the_others_pictures_take_turns(case):
    method = case.method("amun", epochs=1, radius=0.1, steps=10)
    rows = case.ctx.data.rows("forget")
    case.ctx.keep_original()
    attack, adapt = method.phases(case.ctx)
    attack.before(case.ctx)
    for picked in ([5], [2, 3]):  # of eight
        part = case.ctx.data.batch(rows, torch.tensor(picked))
        attack.loss(case.ctx, part)
        attack.update(case.ctx, part)
    adapt.before(case.ctx)
    place = case.ctx.state["place"][rows.positions].tolist()
    assert place == [0, 1, 1, 2, 1, 0, 0, 1] and len(case.ctx.state["pictures"]) == 3
    everything = case.ctx.data.batch(rows, torch.arange(len(rows)))
    pictures, labels = method.crossed(case.ctx, everything)
    assert torch.allclose(case.ctx.state["pictures"], pictures[[5, 2, 3]], atol=1e-5)
    assert torch.equal(case.ctx.state["labels"], labels[[5, 2, 3]])


def test_a_fifth_of_the_budget_attacks_fewer_and_adapts_less(case):
    """With a way that is longer than all the rest."""
    sizes = []
    for cap in (None, 0.2):
        ctx = bench("cnn-small", lr=1e-3, cap_flos=cap and cap * sizes[0][1])
        out = run(case.method("amun", epochs=2, steps=5), ctx, Unlearning(batch_size=4))
        sizes.append((len(ctx.state["pictures"]), ctx.meter.flos, out.truncated))
    (whole, flos, cut), (some, spent, shortened) = sizes
    assert (whole, cut, shortened) == (8, False, True)
    assert 1 <= some <= 3 and spent <= 0.2 * flos * (1 + 1e-9)
