"""Gradient checkpointing: the same gradient for more FLOs, or a refusal; an id without it is the old one."""

import copy

import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS
from mubench_ray.models.flos import count_flos
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.lora import add_lora
from mubench_ray.training.recompute import recompute_activations
from mubench_ray.trial import Recipe, Training
from tests.models.conftest import seeded


def step(task, network, data):
    torch.manual_seed(2)
    batch = data.batch(data.rows("forget"), torch.arange(4))
    network.train()
    _, flos = count_flos(lambda: task.losses(task.outputs(network, batch), batch).mean().backward())
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}, flos


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", ["vit-tiny", "bert-tiny", "t5-tiny", "llama-tiny", "stable-diffusion-tiny"])
def test_the_gradient_is_the_same(name, lora, loaded):
    model = MODELS.get(name)
    if name.startswith("stable"):
        pytest.importorskip("diffusers")
    task, splits = loaded(model.modality, model.kinds[0])
    data = UnlearningData(task, model, {"forget": Rows.all_of(splits.train)})
    network = seeded(lambda: model.build(task))
    if lora:
        network = seeded(lambda: add_lora(network, 0.1))
    plain, cost = step(task, network, data)
    again = copy.deepcopy(network)
    again.zero_grad(set_to_none=True)
    gradients, more = step(task, recompute_activations(again), data)
    assert plain.keys() == gradients.keys() and more > cost
    for key, gradient in plain.items():
        assert torch.allclose(gradients[key], gradient, atol=1e-6), key


def test_a_network_without_blocks_refuses(loaded):
    task, _ = loaded("image")
    with pytest.raises(MubenchError, match="SmallCNN has no such mode"):
        recompute_activations(MODELS.get("cnn-small").build(task))


def test_only_what_is_set_enters_an_id():
    plain = Recipe(task="digits", model="cnn-small", training=Training(), seed=1)
    assert (
        plain.id == Recipe(task="digits", model="cnn-small", training=Training(gradient_checkpointing=False), seed=1).id
    )
    assert "gradient_checkpointing" not in Training().identity()
    assert (
        plain.id != Recipe(task="digits", model="cnn-small", training=Training(gradient_checkpointing=True), seed=1).id
    )
