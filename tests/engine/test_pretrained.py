import torch
import yaml

from mubench_ray.engine.artifacts import ArtifactStore, get_artifact
from mubench_ray.engine.plan import make_plan
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
