import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend, logits

#: What belongs to the last stage and to what follows it.
TAILS = {
    "cnn-small": ("stages.2.", "head."),
    "resnet-tiny": ("resnet.encoder.stages.1.", "classifier."),
    "vit-tiny": ("vit.layers.2.", "vit.layernorm.", "classifier."),
}


@pytest.mark.parametrize("model", TAILS)
def test_the_last_stage_and_the_head_train_and_all_else_is_bit_equal(make_case, model):
    case = make_case(model)
    ran = case.run("cf_k", Unlearning(batch_size=8), epochs=1, k=1)
    changed = {name for name in ran.before if not torch.equal(ran.before[name], ran.after[name])}
    assert changed == {name for name in ran.before if name.startswith(TAILS[model])}  # BatchNorm statistics included


def test_k_counts_stages(case):
    ran = case.run("cf_k", Unlearning(batch_size=8), epochs=1, k=2)
    changed = {name for name in ran.before if not torch.equal(ran.before[name], ran.after[name])}
    assert changed == {name for name in ran.before if name.startswith(("stages.1.", "stages.2.", "head."))}


def test_one_step_with_the_frozen_part_in_eval_mode(case):
    network = case.network
    network.stages[0].eval()
    network.stages[1].eval()
    x, y = case.set("retain")
    trained = {name for name, _ in network.named_parameters() if name.startswith(TAILS["cnn-small"])}
    descend(network, ce(network, x, y), only=trained)
    case.run("cf_k", epochs=1)
    assert_same(case.ctx.network, network)
    assert logits(network, x).shape == (40, 4)


def test_more_stages_than_there_are_is_an_error(make_case):
    with pytest.raises(MubenchError, match="only 2 stages"):
        make_case("resnet-tiny").run("cf_k", k=3)
