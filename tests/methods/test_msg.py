import copy
import math

import pytest
import torch
from torch import nn

from mubench_ray.methods import METHODS
from mubench_ray.trial import Unlearning
from tests.methods.conftest import PLAIN, assert_same, ce, logits

RATE = 0.3


def gradients_by_hand(case, options):
    """Gradient of CE over |D_F| samples of D_R less that over D_F, from the batches that were handed out, in eval mode."""
    kept = [index for index, forget in case.handed if not forget.any()]
    forgotten = [index for index, forget in case.handed if forget.all()]
    network, total = case.network.eval(), 0
    for r, f in zip(kept, forgotten):
        for index, sign in ((r[: len(f)], 1), (f, -1)):
            x, y = case.at(index)
            total = total + sign * nn.functional.cross_entropy(logits(network, x), y, reduction="sum")
    named = dict(network.named_parameters())
    return dict(zip(named, torch.autograd.grad(total, list(named.values()))))


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_smallest_gradients_of_every_convolution_are_drawn_anew_and_nothing_else(case, batch_size):
    options = Unlearning(optimizer="sgd", batch_size=batch_size)
    case.phases("msg", options, take=lambda phases: phases[:1], rate=RATE)
    by_hand = gradients_by_hand(case, options)
    after = case.ctx.network.state_dict()
    for name, before in case.network.state_dict().items():
        changed = after[name] != before
        if before.dim() != 4:
            assert not changed.any(), name  # head, norms, BatchNorm statistics
            continue
        assert changed.sum() == round(RATE * before.numel()), name
        size = by_hand[name].abs()
        assert size[changed].max() <= size[~changed].min() + 1e-6, name
        assert torch.equal(case.ctx.damping[name], torch.where(changed, 1.0, 0.1))
        drawn = after[name][changed]
        if len(drawn) > 500:
            assert drawn.abs().max() > 2 * drawn.std()  # a normal law's, not a uniform one's
            outputs, _, height, width = before.shape
            assert drawn.std() == pytest.approx(math.sqrt(2 / (outputs * height * width)), rel=0.1)
    assert case.ctx.damping.keys() == {name for name, p in case.network.named_parameters() if p.dim() == 4}
    assert sum(int(forget.all()) * len(index) for index, forget in case.handed) == 8


def test_a_repair_step_is_damped_where_nothing_was_drawn_anew(case, make_case):
    first = make_case()
    first.phases("msg", take=lambda phases: phases[:1], rate=RATE)
    network = first.ctx.network.train()
    x, y = first.set("retain")
    gradients = torch.autograd.grad(ce(network, x, y), list(network.parameters()))
    for (name, p), g in zip(network.named_parameters(), gradients):
        p.data -= 0.05 * g * first.ctx.damping.get(name, torch.ones_like(p))
    case.run("msg", epochs=1, rate=RATE)
    assert_same(case.ctx.network, network)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weight_decay_is_not_damped(make_case, momentum):
    first, case = make_case(), make_case()
    first.phases("msg", take=lambda phases: phases[:1], rate=RATE)
    network, share = first.ctx.network.train(), first.ctx.damping
    torch_s = torch.optim.SGD(network.parameters(), lr=0.05, momentum=momentum, weight_decay=0.3)
    (x, y), steps = first.set("retain"), 4
    for number in range(steps):
        torch_s.param_groups[0]["lr"] = 0.05 * [1 / 2, 1, 2 / 3, 1 / 3][number]
        torch_s.zero_grad()
        ce(network, x, y).backward()
        for name, p in network.named_parameters():
            p.grad *= share.get(name, 1.0)
        torch_s.step()  # adds 0.3 p to the damped gradient
    options = Unlearning(optimizer="sgd", momentum=momentum, batch_size=64, weight_decay=0.3)
    case.run("msg", options, epochs=steps, rate=RATE)
    assert_same(case.ctx.network, network, atol=1e-5)


def test_the_learning_rate_rises_and_falls(case):
    (repair,) = case.method("msg").phases(case.ctx)[1:]
    assert repair.optimizer.schedule == "peak" and repair.on == "retain" and repair.epochs == 5


def test_damping_slows_adam_down_as_well(make_case):
    moved, damping = [], None
    for _ in range(2):
        case = make_case()
        case.phases("msg", take=lambda phases: phases[:1], rate=RATE)
        if damping is None:
            damping = case.ctx.damping
        else:
            case.ctx.damping = None
        start = copy.deepcopy(case.ctx.network)
        case.phases("msg", Unlearning(batch_size=64), take=lambda phases: phases[1:], epochs=1, rate=RATE)
        pairs = zip(case.ctx.network.named_parameters(), start.parameters())
        moved.append({name: (p - q).detach() for (name, p), q in pairs})
    for name, share in damping.items():
        assert torch.allclose(moved[0][name], share * moved[1][name], atol=1e-6)


def test_a_transformer_without_convolutions_uses_its_linear_layers_and_a_network_of_neither_is_refused(make_case):
    method = METHODS.get("msg")
    plain = nn.TransformerEncoderLayer(8, 2, 16)
    assert method.refusal_for_network(plain) is None
    assert "neither" in method.refusal_for_network(nn.Embedding(3, 4))
    vit = make_case("vit-tiny")
    vit.phases("msg", PLAIN, take=lambda phases: phases[:1])
    assert list(vit.ctx.damping) == ["vit.embeddings.patch_embeddings.projection.weight"]
