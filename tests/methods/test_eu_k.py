import copy

import pytest
import torch

from mubench_ray.methods.layers import last_stages
from tests.methods.conftest import assert_same, ce, descend
from tests.methods.test_cf_k import TAILS


@pytest.mark.parametrize("model", TAILS)
def test_the_last_stage_and_the_head_are_drawn_anew_statistics_included(make_case, model):
    case = make_case(model)
    for p in case.ctx.network.parameters():
        p.data += 0.01
    before = {name: tensor.clone() for name, tensor in case.ctx.network.state_dict().items()}
    case.method("eu_k").begin(case.ctx)
    after = case.ctx.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith(TAILS[model])}
    for name in changed:
        if name.endswith("running_mean"):
            assert (after[name] == 0).all()
        if name.endswith(("running_var", "num_batches_tracked")):
            assert (after[name] == (1 if name.endswith("var") else 0)).all()


def test_one_step_after_the_new_draw(case, make_case):
    other = make_case()
    other.method("eu_k").begin(other.ctx)
    network = copy.deepcopy(other.ctx.network).train()
    network.stages[0].eval()
    network.stages[1].eval()
    trained = {name for name, _ in network.named_parameters() if name.startswith(TAILS["cnn-small"])}
    descend(network, ce(network, *case.set("retain")), only=trained)
    ran = case.run("eu_k", epochs=1)
    assert_same(case.ctx.network, network)
    frozen = [name for name in ran.before if not name.startswith(TAILS["cnn-small"])]
    assert all(torch.equal(ran.before[name], ran.after[name]) for name in frozen)


def test_k_counts_stages(case):
    before = {name: tensor.clone() for name, tensor in case.ctx.network.state_dict().items()}
    case.method("eu_k", k=2).begin(case.ctx)
    changed = {name for name, tensor in case.ctx.network.state_dict().items() if not torch.equal(before[name], tensor)}
    assert any(name.startswith("stages.1.") for name in changed) and not any(
        name.startswith("stages.0.") for name in changed
    )


def test_another_seed_draws_other_weights(make_case):
    heads = []
    for seed in (1, 2, 1):
        case = make_case(seed=seed)
        case.method("eu_k").begin(case.ctx)
        heads.append(case.ctx.network.head.weight.detach().clone())
    assert torch.equal(heads[0], heads[2]) and not torch.equal(heads[0], heads[1])


def test_drawn_as_in_released_code(make_case):
    """Its laws, and the statistics of before."""
    case = make_case("resnet-tiny")
    before = copy.deepcopy(case.ctx.network.state_dict())
    case.method("eu_k", k=2, drawn="released").begin(case.ctx)
    after = case.ctx.network.state_dict()
    anew = last_stages(case.ctx.network, 2)
    for name, tensor in after.items():
        if name not in anew or "running" in name or "num_batches" in name:
            assert torch.equal(tensor, before[name]), name
        elif tensor.dim() == 4:
            bound = (6 / (tensor.shape[0] * tensor.shape[2] * tensor.shape[3])) ** 0.5
            assert 0.9 * bound < float(tensor.abs().max()) <= bound, name
        elif tensor.dim() == 2:
            bound = (6 / sum(tensor.shape)) ** 0.5
            assert 0.8 * bound < float(tensor.abs().max()) <= bound, name
        else:
            assert set(tensor.tolist()) == {1.0 if name.endswith("weight") else 0.0}, name
