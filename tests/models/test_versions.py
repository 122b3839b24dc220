"""What of a model enters ids: where it was registered, and whether it starts from a checkpoint."""

import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.models import MODELS, get_model
from mubench_ray.registry import load_plugin
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trials.versions import with_reading, with_weights

PLUGIN = """
from mubench_ray.models.base import register
from mubench_ray.models.vit import ViT

register("{name}", ViT({width}, 1, 2, None, image_size=None))
"""


@pytest.fixture
def forgotten(monkeypatch):
    """What a test registers is forgotten after it."""
    MODELS.names()
    monkeypatch.setattr(MODELS, "_things", dict(MODELS._things))
    monkeypatch.setattr(MODELS, "_spellings", dict(MODELS._spellings))


def ids(tiny, model):
    plan = make_plan(make_suite({**tiny, "models": model, "methods": ["original", "ft"], "ratios": 10}))
    return {*plan.trials, *plan.recipes}


def test_a_model_knows_the_file_that_registered_it(tmp_path, forgotten):
    assert all(model.defined_in.startswith("mubench_ray.models.") for _, model in MODELS)
    assert MODELS.get("hubert-tiny").defined_in == "mubench_ray.models.wav2vec2"
    (tmp_path / "mine_known.py").write_text(PLUGIN.format(name="mine-known", width=16))
    load_plugin(tmp_path / "mine_known.py")
    assert MODELS.get("mine-known").defined_in == "mubench_plugin_mine_known"
    get_model("vit-tiny").build(TASKS.get("digits")()).save_pretrained(tmp_path / "folder")
    assert get_model("mine-known", str(tmp_path / "folder")).defined_in == "mubench_plugin_mine_known"


def test_an_edited_plugin_is_another_model_though_its_class_is_ours(tiny, tmp_path, forgotten):
    found = []
    for folder, width in (("one", 16), ("same", 16), ("edited", 32)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"mine_{folder}.py"
        path.write_text(PLUGIN.format(name="mine", width=width))
        load_plugin(path)
        found.append(ids(tiny, "mine"))
        del MODELS._things["mine"], MODELS._spellings["mine"]
    assert found[0] == found[1] and not found[0] & found[2]


def test_from_a_checkpoint_another_version_counts(tiny, tmp_path):
    get_model("vit-tiny").build(TASKS.get("digits")()).save_pretrained(tmp_path / "folder")
    suite = {**tiny, "methods": ["original", "neggrad"], "ratios": 10}
    start = {"name": "vit-tiny", "pretrained": str(tmp_path / "folder")}
    three = with_weights(3, str(tmp_path / "folder"))
    assert str(three).startswith("3:")  # and what lies there
    for model, expected in (("vit-tiny", {}), (start, {"model": three})):
        plan = make_plan(make_suite({**suite, "models": model}))
        assert all(thing.versions == expected for thing in [*plan.trials.values(), *plan.recipes.values()])
    elsewhere = {"name": "vit-tiny", "original": str(tmp_path / "folder")}
    plan = make_plan(make_suite({**suite, "models": elsewhere}))
    four, read = with_weights(4, str(tmp_path / "folder")), with_reading(4, str(tmp_path / "folder"))
    assert all(trial.versions == {"checkpoint": four, "reading": read} for trial in plan.trials.values())
    found = [recipe.versions for recipe in (*plan.originals, *plan.retrains)]
    assert found == [{"checkpoint": four}, {"checkpoint": read}]
