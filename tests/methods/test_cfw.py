import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from tests.methods.conftest import assert_same, descend, logits


@pytest.mark.parametrize("model", ["cnn-small", "resnet-tiny", "vit-tiny"])
def test_noise_reaches_every_convolution_kernel_and_nothing_else(make_case, model):
    case = make_case(model)
    case.method("cfw").blur(case.ctx, std=0.6)
    kernels = {f"{name}.weight" for name, layer in case.network.named_modules() if isinstance(layer, nn.Conv2d)}
    noise = []
    for name, before in case.network.state_dict().items():
        change = case.ctx.network.state_dict()[name] - before
        assert (name in kernels) == bool(change.any()), name
        if name in kernels:
            assert (change != 0).float().mean() > 0.99
            noise.append(change.flatten())
    noise = torch.cat(noise)
    assert noise.std() == pytest.approx(0.6, rel=0.1) and abs(noise.mean()) < 0.1
    assert len(kernels) == {"cnn-small": 3, "vit-tiny": 1}.get(model, len(kernels)) and (
        model != "resnet-tiny" or len(kernels) > 4
    )


def weighted(case, network):
    x, y = case.set("retain")
    counts = torch.bincount(y)
    assert counts.tolist() == [8, 12, 8, 12]  # the test needs unequal classes
    return F.cross_entropy(logits(network, x), y, weight=1 / counts.float())


def test_noise_a_weighted_step_small_noise_a_weighted_step(case, make_case):
    other = make_case()  # its own context draws the same noise
    network, method = other.ctx.network.train(), other.method("cfw", epochs=2)
    method.blur(other.ctx, std=0.6)
    descend(network, weighted(case, network), lr=0.05)
    before = copy.deepcopy(network)
    method.blur(other.ctx, std=0.005)
    small = torch.cat(
        [(p - q).flatten() for p, q in zip(network.parameters(), before.parameters()) if p.dim() == 4]
    ).detach()
    assert small.std() == pytest.approx(0.005, rel=0.05)
    descend(network, weighted(case, network), lr=0.025)  # cosine, half-way
    case.run("cfw", epochs=2)
    assert_same(case.ctx.network, network)


def test_the_small_noise_comes_before_the_last_epoch(case):
    phases = case.method("cfw", epochs=4).phases(case.ctx)
    assert [(p.epochs, p.before.keywords["std"]) for p in phases] == [(3, 0.6), (1, 0.005)]


def test_with_one_epoch_both_noises_come_before_it(case):
    ran = case.run("cfw", epochs=1)
    assert len(case.handed) == 1 and not ran.truncated
    assert [p.epochs for p in case.method("cfw", epochs=1).phases(case.ctx)] == [0, 1]


def test_a_network_without_convolutions_is_refused():
    assert "none" in METHODS.get("cfw").refusal_for_network(nn.TransformerEncoderLayer(8, 2, 16))


def test_only_the_convolutions_at_the_top_as_released_code_has_it(make_case):
    """A network whose convolutions are all inside other modules has none, and says so."""
    case = make_case("cnn-small")
    with pytest.raises(MubenchError, match="where = 'top'"):
        case.run("cfw", where="top")
    case = make_case("cnn-small")
    case.ctx.network.conv1 = torch.nn.Conv2d(1, 2, 3)
    (noise, *_) = (phase.before for phase in case.method("cfw", where="top", std=0.3).phases(case.ctx))
    before = copy.deepcopy(case.ctx.network.state_dict())
    noise(case.ctx)
    moved = {n for n, p in case.ctx.network.state_dict().items() if not torch.equal(p, before[n])}
    assert moved == {"conv1.weight"}
