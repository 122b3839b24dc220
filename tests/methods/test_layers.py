import pytest
import torch
from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.methods import layers, msg


def test_parts_of_the_small_networks(make_case):
    cnn, resnet, vit = (make_case(name).network for name in ("cnn-small", "resnet-tiny", "vit-tiny"))
    assert layers.stages(cnn) == ["stages.0", "stages.1", "stages.2"]
    assert layers.stages(resnet) == ["resnet.encoder.stages.0", "resnet.encoder.stages.1"]
    assert layers.stages(vit) == ["vit.layers.0", "vit.layers.1", "vit.layers.2"]
    assert [layers.head(n) for n in (cnn, resnet, vit)] == ["head", "classifier", "classifier"] or layers.head(
        resnet
    ) == "classifier.1"
    assert (
        layers.first_layer(cnn) == "stages.0.0"
        and layers.first_layer(vit) == "vit.embeddings.patch_embeddings.projection"
    )
    assert "vit.layernorm.weight" in layers.norm_parameters(vit)
    assert layers.norm_parameters(cnn) == {f"stages.{i}.1.{p}" for i in range(3) for p in ("weight", "bias")}


def test_a_tied_head_is_no_head_of_its_own():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight

    assert "shares its weight" in layers.no_head(Tied())
    with pytest.raises(MubenchError, match="shares its weight"):
        layers.head(Tied())
    assert "no linear layer" in layers.no_head(nn.Conv2d(1, 1, 1))


def test_a_network_without_stages():
    assert layers.stages(nn.Linear(2, 2)) == []
    with pytest.raises(MubenchError, match="only 0 stages"):
        layers.last_stages(nn.Linear(2, 2), 1)


def test_drawing_anew_takes_the_architectures_own_initialisation_and_leaves_the_global_stream_alone(case):
    state = torch.random.get_rng_state()
    layers.reinitialise(case.ctx, ["head.weight", "stages.0.1.running_var"], "here")
    assert torch.equal(state, torch.random.get_rng_state())
    assert case.ctx.network.head.weight.abs().max() <= 32**-0.5
    assert (case.ctx.network.stages[0][1].running_var == 1).all()


def test_class_weights_count_the_retain_set(case):
    labels = case.set("retain")[1]
    expected = torch.tensor([float((labels == c).sum()) ** -0.5 for c in range(4)])
    assert torch.allclose(layers.class_weights(case.ctx, 0.5), expected)
    gone = case.ctx.data.sets["retain"]
    keep = gone.examples.labels[gone.positions] != 2
    case.ctx.data.sets["retain"] = type(gone)(gone.examples, gone.positions[keep])
    assert layers.class_weights(case.ctx, 1.0)[2] == 0


def test_a_weight_that_is_computed_is_set_through_what_it_is_computed_from(case):
    layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5))
    wanted = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    layers.set_weight(layer, wanted)
    assert torch.allclose(layer.weight, wanted, atol=1e-6)
    case.ctx.network = nn.Sequential(layer, nn.Linear(4, 4))
    before = layer.weight.detach().clone()
    case.method("cfw").blur(case.ctx, std=0.6)
    assert (layer.weight - before).detach().std() == pytest.approx(0.6, rel=0.25)
    assert list(msg.layers(nn.Sequential(layer, nn.Conv1d(3, 3, 2)))) == ["1"]
