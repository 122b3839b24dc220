"""Text-to-image: the noise that is drawn and predicted, relabelling, drawing, judging, and the published size."""

import copy

import numpy as np
import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.models import MODELS, get_model
from mubench_ray.models.base import parameters
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.generated_pictures import classifier, clip_scores, recognised
from mubench_ray.tasks.text_to_image import NOISE, noise_schedule
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import evaluate
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.run_trial import run_trial
from tests.models.conftest import seeded
from tests.tasks.layouts import write_emoji

pytest.importorskip("diffusers")
NAME = "stable-diffusion-tiny"


@pytest.fixture
def setting(loaded):
    task, splits = loaded("caption + picture", "text to image")
    model = MODELS.get(NAME)
    data = UnlearningData(task, model, {"forget": Rows.all_of(splits.train)})
    return task, splits, model, data, seeded(lambda: model.build(task)).eval()


def test_the_loss_is_the_error_of_the_predicted_noise(setting):
    task, _, _, data, network = setting
    batch = data.batch(data.rows("forget"), torch.arange(3))
    torch.manual_seed(1)
    outputs = task.outputs(network, batch)
    steps, noise = batch.cache[NOISE]
    torch.manual_seed(1)
    assert torch.equal(steps, torch.randint(1000, (3,))) and torch.equal(noise, torch.randn(noise.shape))
    kept = noise_schedule().alphas_cumprod[steps].view(-1, 1, 1, 1)
    mixed = kept.sqrt() * batch.inputs["latents"] + (1 - kept).sqrt() * noise
    expected = network(mixed, steps, encoder_hidden_states=batch.inputs["captions"]).sample
    assert torch.allclose(outputs, expected, atol=1e-5)
    assert torch.allclose(task.losses(outputs, batch), (outputs - noise).square().flatten(1).mean(1))
    # A teacher sees the same noise.
    assert torch.equal(task.outputs(network, batch), outputs) and task.divergence(outputs, outputs, batch).sum() == 0
    assert torch.allclose(task.divergence(outputs, outputs + 2, batch), torch.full((3,), 2.0))


def test_an_evaluation_draws_the_same_every_time_and_leaves_no_trace(setting):
    _, _, _, data, network = setting
    rows = data.rows("forget")
    state = torch.random.get_rng_state()
    first = evaluate(network, data, rows)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert np.array_equal(evaluate(network, data, rows)["loss"], first["loss"])
    assert np.isnan(first["correct"]).all() and np.isfinite(first["loss"]).all()


def test_another_picture_is_one_of_another_class(setting):
    task, splits, _, data, _ = setting
    batch = data.batch(data.rows("forget"), torch.arange(8))
    label_of = dict(zip(splits.train.columns["picture"].tolist(), splits.train.labels.tolist()))
    draws = torch.linspace(0, 0.999, 8)
    other = task.relabel(batch, draws, keep_true=False)
    assert all(label_of[p] != label for p, label in zip(other["picture"].tolist(), batch["labels"].tolist()))
    assert not torch.equal(other.inputs["latents"], batch.inputs["latents"])
    assert torch.equal(other.inputs["captions"], batch.inputs["captions"]) and NOISE not in other.cache
    any_of_them = task.relabel(batch, draws, keep_true=True)["picture"].tolist()
    assert len({label_of[p] for p in any_of_them}) == 2


def test_drawn_pictures_are_judged(setting, monkeypatch):
    task, splits, model, _, network = setting
    monkeypatch.setattr(type(task), "drawing_steps", 2)
    columns = splits.test.take(torch.arange(2))
    with torch.no_grad():
        drawn = task.draw(model, network, columns)
        assert drawn.shape == (2, 3, 64, 64) and drawn.dtype == torch.uint8
        assert torch.equal(drawn, task.draw(model, network, columns))
    judged = task.judge(model, network, columns)
    assert set(judged) == {"generated_correct"} and set(judged["generated_correct"]) <= {0.0, 1.0}
    # The classifier knows the real pictures, also those it was not trained on.
    real = task.pictures.take(splits.test.columns["picture"])
    assert (recognised(task, real) == splits.test.labels).float().mean() >= 0.9
    again = classifier(task)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), classifier(task).state_dict().values()))


def test_clip_scores_are_cosines(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    from mubench_ray.models.tokenizer import train_wordpiece

    tokenizer = train_wordpiece(["a red thing", "a blue thing"], 100)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 100, "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    seeded(lambda: CLIPModel(config).save_pretrained(tmp_path))
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    tokenizer.model_max_length = 16
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(tmp_path)
    pictures = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    pictures[0, 0] = 255
    scores = clip_scores(pictures, ["a red thing", "a blue thing"], str(tmp_path))
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()
    with pytest.raises(MubenchError, match="neither a folder nor id@revision"):
        clip_scores(pictures, ["a", "b"], "openai/clip")


def test_stable_diffusion_has_the_published_size():
    task = TASKS.get("tiny_imagenet_drawings")()
    assert parameters(task, MODELS.get("stable-diffusion-1.4")) == 859_520_964
    with pytest.raises(MubenchError, match="needs a revision"):
        MODELS.get("stable-diffusion-1.4").pretrained("somebody/elses")


def test_a_checkpoint_folder_is_the_original(loaded, tmp_path, monkeypatch):
    """A whole trial from a pipeline's folder: its parts are read, nothing is trained first."""
    data_dir, folder = write_emoji(tmp_path / "data"), tmp_path / "pipeline"
    monkeypatch.setattr(TASKS.get("emoji_drawings"), "drawing_steps", 2)
    monkeypatch.setattr(TASKS.get("emoji_drawings"), "judged", 2)
    load_task.cache_clear()
    task = TASKS.get("emoji_drawings")(data_dir)
    task.load()
    plain = MODELS.get(NAME)
    seeded(lambda: plain.build(task).save_pretrained(folder / "unet"))
    plain.frozen().autoencoder.save_pretrained(folder / "vae")
    plain.frozen().text_encoder.save_pretrained(folder / "text_encoder")
    from mubench_ray.models.tokenizer import Reader

    Reader(plain.vocabulary).tokenizer(task.texts).save_pretrained(folder / "tokenizer")
    suite = {
        "name": "drawings",
        "tasks": "emoji_drawings",
        "models": {"name": NAME, "pretrained": str(folder)},
        "methods": ["original", {"name": "neggrad", "epochs": 1}, "retrain"],
        "ratios": 10,
        "seeds": 42,
        "lrs": 1e-4,
        "data_dir": str(data_dir),
    }
    plan = make_plan(make_suite(suite))
    assert len(plan.trials) == 2 and plan.retrains == []
    for trial in plan.trials.values():
        outcome = run_trial(trial, ArtifactStore(tmp_path / "artifacts"), str(data_dir))
        row = outcome.row
        assert row["status"] in ("ok", "truncated"), outcome.traceback
        assert row["forget_loss"] > 0 and row["forget_generated_accuracy"] in (0.0, 0.5, 1.0)
        assert row["forget_accuracy"] is None and row["retention_deviation"] is None and row["retrain_flos"] is None
        assert all(point["forget_accuracy"] is None and point["forget_loss"] > 0 for point in outcome.curve)
    load_task.cache_clear()
    # As an original trained elsewhere: a retrain starts at random and reads with the original's parts.
    elsewhere = make_plan(make_suite({**suite, "models": {"name": NAME, "original": str(folder)}}))
    (recipe,) = {each.original_checkpoint for each in elsewhere.retrains}
    theirs, model = plain.pretrained(str(folder)), get_model(NAME, None, recipe)
    whole = theirs.initial(task).state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in model.finished(task).state_dict().items())
    assert not all(torch.equal(tensor, whole[name]) for name, tensor in model.initial(task).state_dict().items())
    assert model.source == str(folder) and plain.source is None


def test_half_precision_parts_become_float32_and_a_changed_folder_is_read_anew(loaded, tmp_path):
    from mubench_ray.models.stable_diffusion import _frozen
    from mubench_ray.models.tokenizer import Reader

    task, splits = loaded("caption + picture", "text to image")
    plain = MODELS.get(NAME)
    parts = {
        "unet": seeded(lambda: plain.build(task)),
        "vae": copy.deepcopy(plain.frozen().autoencoder),
        "text_encoder": copy.deepcopy(plain.frozen().text_encoder),
    }
    for part, network in parts.items():
        network.half().save_pretrained(tmp_path / part)
    Reader(plain.vocabulary).tokenizer(task.texts).save_pretrained(tmp_path / "tokenizer")
    columns = splits.test.take(torch.arange(2))

    def read():
        task.texts.tokens.clear()  # as another process would find it
        _frozen.cache_clear()
        model = plain.pretrained(str(tmp_path))
        networks = [model.initial(task), *model.frozen()]
        assert {tensor.dtype for network in networks for tensor in network.parameters()} == {torch.float32}
        return model.encode(task, columns)

    first = read()
    assert {column.dtype for column in first.values()} == {torch.float32}
    for part in ("vae", "text_encoder"):
        network = parts[part].float()
        with torch.no_grad():
            for tensor in network.parameters():
                tensor.mul_(1.5)
        network.save_pretrained(tmp_path / part)
    second = read()
    assert all((first[name] - second[name]).abs().max() > 1e-3 for name in ("latents", "captions"))
    task.texts.tokens.clear()
    _frozen.cache_clear()


def test_methods_that_need_probabilities_labelled_pictures_or_a_head_refuse(setting):
    task, _, _, _, network = setting
    refused = {name for name, method in METHODS if method.refusal(type(task)) or method.refusal_for_network(network)}
    assert refused == {
        "amun", "boundary_expand", "boundary_shrink", "cf_k", "cfw", "delete", "eu_k", "fcs", "ff", "jit", "kde", "lfssd", "natmu", "prmq", "rni", "sisa",
        "unsir",
    }  # fmt: skip
