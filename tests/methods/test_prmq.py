import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, descend, logits


def weights(network):
    return {f"{n}.weight": m.weight for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize(("model", "rate"), [("cnn-small", 0.99), ("vit-tiny", 0.5)])
def test_the_globally_smallest_weights_are_redrawn_and_nothing_else(make_case, model, rate):
    case = make_case(model)
    case.method("prmq", prune_rate=rate).redraw(case.ctx)
    before, after = weights(case.network), case.ctx.network.state_dict()
    size = torch.cat([w.detach().abs().flatten() for w in before.values()])
    changed = {name: after[name] != w for name, w in before.items()}
    redrawn = torch.cat([c.flatten() for c in changed.values()])
    assert redrawn.sum() == round(rate * len(size))
    assert size[redrawn].max() <= size[~redrawn].min()
    for name, w in before.items():
        bound = (1 / w[0].numel()) ** 0.5  # fan_in
        drawn = after[name][changed[name]]
        assert drawn.abs().max() <= bound
        if len(drawn) > 300:
            assert drawn.abs().max() > 0.95 * bound and drawn.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    others = [name for name in after if name not in before]
    assert others and all(torch.equal(after[name], case.network.state_dict()[name]) for name in others)


def entropy(outputs):
    p = outputs.softmax(1)
    return -(p * p.log()).sum(1)


def test_a_step_and_the_half_precision_round_trip(case, make_case):
    other = make_case()
    other.method("prmq").redraw(other.ctx)
    network = copy.deepcopy(other.ctx.network).train()
    x, y = case.set("retain")
    outputs = logits(network, x)
    weighted = F.cross_entropy(outputs, y, weight=torch.bincount(y).float() ** -0.1)
    with torch.no_grad():
        wanted = entropy(logits(case.original, x))
    descend(network, weighted + ((entropy(outputs) - wanted) ** 2).mean())
    case.phases("prmq", epochs=1)
    assert_same(case.ctx.network, network)
    case.method("prmq").finish(case.ctx)
    for name, p in case.ctx.network.named_parameters():
        assert torch.equal(p, p.half().float())
        assert torch.allclose(
            p, dict(network.named_parameters())[name], rtol=2**-10, atol=1e-6
        )  # half a unit in the last of 11 bits


def test_a_fraction_of_an_epoch_is_whole_batches_rounded_up(case):
    case.run("prmq", Unlearning(batch_size=8), epochs=3.2)
    assert len(case.handed) == 16  # 5 batches an epoch, 3.2 epochs
