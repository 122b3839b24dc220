import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.models import get_model
from mubench_ray.results.observations import load_results
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trial import Recipe
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import prepare, unlearn
from tests.engine.processes import finish


def test_a_suite_starts_from_a_checkpoint_in_a_folder(tiny, tmp_path):
    task = TASKS.get("digits")()
    torch.manual_seed(5)
    checkpoint = get_model("vit-tiny").build(task)
    checkpoint.save_pretrained(tmp_path / "checkpoint")
    model = {"name": "vit-tiny", "pretrained": str(tmp_path / "checkpoint"), "training": {"lr": 1e-9, "epochs": 0.1}}
    plan = make_plan(make_suite({**tiny, "models": model, "methods": "ft", "ratios": 10}))
    recipe = plan.originals[0]
    artifact = get_artifact(recipe, ArtifactStore(tmp_path / "artifacts"))
    trained = artifact.load_into(get_model("vit-tiny").build(task)).state_dict()
    for name, tensor in checkpoint.state_dict().items():
        assert torch.allclose(trained[name], tensor, atol=1e-6), name
    plain = make_plan(make_suite({**tiny, "models": "vit-tiny", "methods": "ft", "ratios": 10}))
    assert not plain.trials.keys() & plan.trials.keys()


def test_paths_of_a_suite_begin_where_the_command_was_given(tiny, tmp_path):
    """Tune by itself runs every trial in a folder of its own."""
    get_model("vit-tiny").build(TASKS.get("digits")()).save_pretrained(tmp_path / "checkpoint")
    model = {"name": "vit-tiny", "pretrained": "checkpoint"}
    suite = {**tiny, "models": model, "methods": ["original", "neggrad"], "ratios": 10, "training": {"epochs": 1}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    finish("run", "suite.yaml", "--out", "out", cwd=tmp_path)
    assert {row["status"] for row in load_results(tmp_path / "out").to_pylist()} <= {"ok", "truncated"}


def test_a_network_trained_elsewhere_is_the_original(tiny, tmp_path):
    """Retrains are trained here; with it, the original is what the folder holds, to the last bit, and costs nothing."""
    task = TASKS.get("digits")()
    torch.manual_seed(5)
    elsewhere = get_model("vit-tiny").build(task)
    elsewhere.save_pretrained(tmp_path / "elsewhere")
    base = {**tiny, "methods": ["original", "neggrad"], "ratios": 10, "training": {"epochs": 1}}
    suite = make_suite({**base, "models": {"name": "vit-tiny", "original": str(tmp_path / "elsewhere")}})
    plan = make_plan(suite)
    assert [recipe.training for recipe in plan.originals] == [None] and len(plan.retrains) == 1
    assert [recipe.original_checkpoint for recipe in plan.retrains] == [str(tmp_path / "elsewhere")]
    store = ArtifactStore(tmp_path / "artifacts")
    original = get_artifact(plan.originals[0], store)
    loaded = original.load_into(get_model("vit-tiny").build(task)).state_dict()
    assert original.flos == 0 and all(
        torch.equal(loaded[name], given) for name, given in elsewhere.state_dict().items()
    )
    for trial in plan.trials.values():
        row = run_trial(trial, store).row
        assert row["status"] in ("ok", "truncated"), row["error"]
        assert row["retrain_flos"] > 0 and row["flos"] <= row["retrain_flos"]


def test_what_is_no_network_for_the_task_is_no_original(tiny, tmp_path):
    """A checkpoint of other classes, which as a start of training would be given a new head."""
    task = TASKS.get("digits")()
    config = get_model("vit-tiny").config(task)
    config.num_labels = 3
    type(get_model("vit-tiny").build(task))(config).save_pretrained(tmp_path / "three")
    model = {"name": "vit-tiny", "original": str(tmp_path / "three")}
    suite = make_suite({**tiny, "models": model, "methods": "original", "ratios": 10, "training": {"epochs": 1}})
    said = r"three' is no network trained on digits: it lacks classifier"
    with pytest.raises(MubenchError, match=said):
        make_plan(suite)
    recipe = Recipe(task="digits", subset=300, model="vit-tiny", pretrained=model["original"], training=None, seed=0)
    with pytest.raises(MubenchError, match=said):
        get_artifact(recipe, ArtifactStore(tmp_path / "artifacts"))
    with pytest.raises(SuiteError, match="halves cannot go with original of a model"):
        make_suite({**tiny, "models": model, "halves": 2})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("start", ["pretrained", "original"])
def test_original_retrain_and_unlearned_are_float32_whatever_the_file_is(tiny, tmp_path, dtype, start):
    """At 1e-5 most weights stay where they were in half precision, since a step is smaller than half of the distance to the next number."""
    checkpoint = get_model("vit-tiny").build(TASKS.get("digits")()).to(dtype)
    checkpoint.save_pretrained(tmp_path / "half")
    given = {name: tensor.float() for name, tensor in checkpoint.state_dict().items()}
    model = {"name": "vit-tiny", "pretrained": str(tmp_path / "half"), "training": {"lr": 1e-5, "epochs": 1}}
    if start == "original":
        get_model("vit-tiny").build(TASKS.get("digits")()).to(dtype).save_pretrained(tmp_path / "base")
        model |= {"original": str(tmp_path / "half"), "pretrained": str(tmp_path / "base")}
    plan = make_plan(
        make_suite({**tiny, "models": model, "methods": {"name": "ft", "epochs": 1}, "ratios": 10, "lrs": 1e-5})
    )
    store = ArtifactStore(tmp_path / "artifacts")
    trial = next(iter(plan.trials.values()))
    prepared = prepare(trial, store)
    unlearn(prepared.ctx, prepared.method, trial, lambda ctx: None)
    original, retrain = (
        load_file(store.root / recipe.id / "weights.safetensors") for recipe in (trial.original, trial.retrain)
    )
    for what, weights in (("f_O", original), ("f_R", retrain), ("f_U", prepared.ctx.network.state_dict())):
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32} and weights.keys() == given.keys(), what
        moved = sum(int((weights[name] != given[name]).sum()) for name in given) / sum(
            w.numel() for w in given.values()
        )
        assert moved == 0 if what == "f_O" and start == "original" else moved > 0.9, what


def test_a_folder_that_is_not_the_models_stops_the_plan_and_the_run(tiny, tmp_path):
    """Before anything is trained, also for the other models of the suite."""
    config = get_model("bert-tiny").config(TASKS.get("imdb")())
    from transformers import BertForSequenceClassification

    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    models = ["cnn-small", {"name": "vit-tiny", "pretrained": str(tmp_path / "bert")}]
    suite = {**tiny, "models": models, "methods": ["original"], "ratios": 10}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    for command in (["plan", "suite.yaml"], ["run", "suite.yaml", "--out", "out"]):
        run = subprocess.run(
            [sys.executable, "-m", "mubench_ray", *command], cwd=tmp_path, capture_output=True, text=True
        )
        said = " ".join((run.stdout + run.stderr).split())
        assert run.returncode != 0 and "model_type 'bert'" in said and "takes 'vit'" in said and "Traceback" not in said
    assert not list(tmp_path.glob("out/artifacts/*"))


def test_what_is_on_the_hub_is_not_asked_for_by_the_plan(tiny, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *to: pytest.fail("the plan went to the net"))
    for pretrained in (True, "someone/something@" + 40 * "0"):
        model = {"name": "vit-b", "pretrained": pretrained}
        assert make_plan(make_suite({**tiny, "models": model})).originals
