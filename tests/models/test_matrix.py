"""Every tiny model takes one step on a small task of its modality, in float32 on one core."""

import pytest
import torch

from mubench_ray.models import MODELS
from mubench_ray.models.base import flos_per_sample
from mubench_ray.models.flos import count_flos
from mubench_ray.tasks.base import Batch
from mubench_ray.training.data import Rows, UnlearningData
from tests.models.conftest import seeded

TINY = [name for name in MODELS.names() if name.endswith("-tiny") and name != "whisper-tiny"] + ["cnn-small"]


def setting(name, loaded, rows=4):
    model = MODELS.get(name)
    task, splits = loaded(model.modality, model.kinds[0])
    data = UnlearningData(task, model, {"forget": Rows.all_of(splits.train)})
    return task, model, seeded(lambda: model.build(task)), data.batch(data.rows("forget"), torch.arange(rows))


def test_every_architecture_has_a_tiny_configuration():
    families = {model.family for _, model in MODELS}
    assert families == {MODELS.get(name).family for name in TINY}


@pytest.mark.parametrize("name", TINY)
def test_one_step(name, loaded):
    task, model, network, batch = setting(name, loaded)
    assert model.refusal(type(task)) is None
    before = task.losses(task.outputs(network, batch), batch)
    assert before.shape == (4,) and torch.isfinite(before).all()
    before.mean().backward()
    trained = [(key, p.grad) for key, p in network.named_parameters() if p.requires_grad]
    missing = [key for key, gradient in trained if gradient is None or not torch.isfinite(gradient).all()]
    assert missing == [] or model.family in UNUSED
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
        moved = task.losses(task.outputs(network, batch), batch)
    assert not torch.equal(moved, before)


#: Families with parameters that no gradient reaches: the mask embedding of wav2vec2, which only its pretraining uses.
UNUSED = {"wav2vec2", "hubert"}


@pytest.mark.parametrize("name", TINY)
def test_what_methods_and_metrics_see(name, loaded):
    task, _, network, batch = setting(name, loaded)
    if task.kind == "text to image":
        pytest.skip("a diffusion model has no probabilities: see test_stable_diffusion.py")
    network.eval()
    with torch.no_grad():
        outputs = task.outputs(network, batch)
    log_probs = task.log_probs(outputs, batch)
    assert len(log_probs) == 4 and torch.allclose(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:-1]), atol=1e-4)
    seen = task.observe(outputs, batch)
    of_classes = {"modified_entropy", "top_probability"} if task.kind == "classification" else set()
    assert set(seen) == {"loss", "correct", "confidence", "entropy"} | of_classes
    assert all(value.shape == (4,) and torch.isfinite(value).all() for value in seen.values())
    assert ((seen["correct"] >= 0) & (seen["correct"] <= 1)).all()
    assert torch.allclose(seen["loss"].float(), task.losses(outputs, batch), atol=1e-4)
    wrong = task.relabel(batch, torch.tensor([0.0, 0.3, 0.6, 0.99]), keep_true=False)
    network.train()  # so that the untrained logits are not all alike
    with torch.no_grad():
        losses = [task.losses(seeded(lambda part=part: task.outputs(network, part)), part) for part in (batch, wrong)]
    assert not torch.equal(*losses)


@pytest.mark.parametrize("name", TINY)
def test_the_same_seed_gives_the_same_network(name, loaded):
    task, model, network, batch = setting(name, loaded)
    again = seeded(lambda: model.build(task))
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values()))
    results = []
    for net in (network, again):
        net.train()
        torch.manual_seed(1)
        results.append(task.losses(task.outputs(net, batch), batch))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", TINY)
def test_weights_survive_saving(name, loaded, tmp_path):
    from safetensors.torch import load_model, save_model

    task, model, network, _ = setting(name, loaded)
    save_model(network, str(tmp_path / "weights.safetensors"))
    torch.manual_seed(5)
    other = model.build(task)
    load_model(other, tmp_path / "weights.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("name", TINY)
def test_flos_on_paper_are_those_of_a_real_step(name, loaded):
    task, model, network, batch = setting(name, loaded)
    _, training = flos_per_sample(task, model)
    network.train()

    def step():
        fresh = Batch(batch.columns, batch.inputs, batch.forget)
        task.losses(task.outputs(network, fresh), fresh).mean().backward()

    assert training == pytest.approx(count_flos(step)[1] / 4, rel=0.1)


def test_a_model_refuses_another_modality(loaded):
    image, _ = loaded("image")
    assert MODELS.get("bert-tiny").refusal(type(image)) == "model bert-tiny reads text, task digits is image"
