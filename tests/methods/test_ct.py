import pytest
import torch
from torch import nn

from mubench_ray.methods import METHODS
from tests.methods.conftest import assert_same, ce, descend


@pytest.mark.parametrize("model", ["cnn-small", "resnet-tiny", "vit-tiny"])
def test_every_square_kernel_is_transposed_and_nothing_else(make_case, model):
    case = make_case(model)
    case.method("ct").transpose(case.ctx)
    after, kernels = case.ctx.network.state_dict(), 0
    for name, before in case.network.state_dict().items():
        if before.dim() == 4 and before.shape[-1] > 1:
            kernels += 1
            assert not torch.equal(after[name], before)
            assert all(
                torch.equal(after[name][..., i, j], before[..., j, i])
                for i in range(before.shape[-2])
                for j in range(before.shape[-1])
            )
        else:
            assert torch.equal(after[name], before), name
    assert kernels == {"cnn-small": 3, "resnet-tiny": 5, "vit-tiny": 1}[model]


def test_one_step_after_the_transposition(case):
    for p in case.network.parameters():
        if p.dim() == 4:
            p.data = p.data.permute(0, 1, 3, 2).contiguous()
    descend(case.network, ce(case.network, *case.set("retain")))
    case.run("ct", epochs=1)
    assert_same(case.ctx.network, case.network)


def test_it_refuses_networks_without_a_square_kernel():
    refusal = METHODS.get("ct").refusal_for_network
    assert refusal(nn.Conv2d(1, 1, 3)) is None
    assert "none" in refusal(
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv1d(1, 1, 3), nn.Conv2d(1, 1, (3, 5)), nn.Linear(2, 2))
    )
