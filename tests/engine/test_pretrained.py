import pytest
import torch
import yaml

from mubench_ray.engine.artifacts import ArtifactStore, get_artifact
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run_trial import run_trial
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.models import get_model
from mubench_ray.results.store import load_results
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
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
    assert plan.retrains == make_plan(make_suite({**base, "models": "vit-tiny"})).retrains
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
    plan = make_plan(
        make_suite({**tiny, "models": model, "methods": "original", "ratios": 10, "training": {"epochs": 1}})
    )
    with pytest.raises(MubenchError, match=r"three' is no network trained on digits: it lacks classifier"):
        get_artifact(plan.originals[0], ArtifactStore(tmp_path / "artifacts"))
    with pytest.raises(SuiteError, match="halves cannot go with original of a model"):
        make_suite({**tiny, "models": model, "halves": 2})
