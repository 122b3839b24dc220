"""Versions enter the ids that they affect, of trials and of artifacts, and no others."""

from __future__ import annotations

import functools
import json

import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.forget import SAMPLERS
from mubench_ray.methods import METHODS
from mubench_ray.models import MODELS
from mubench_ray.registry import load_plugin
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trial import Trial
from mubench_ray.trials import versions

BASE = {"name": "t", "tasks": "digits", "models": "cnn-small", "seeds": 1, "lrs": 5e-4, "ratios": 5}

METHOD = '''
from mubench_ray.methods import Method, method

@method("{name}", title="Mine", cites="a test")
class Mine(Method):
    """Nothing."""
    def phases(self, ctx):
        return {result}
'''


def trials(**changes) -> dict[str, Trial]:
    found = make_plan(make_suite({**BASE, "methods": ["original", "retrain", "neggrad"], **changes})).trials
    return {trial.method: trial for trial in found.values()}


def test_nothing_above_one_stands_in_no_id():
    assert all(trial.versions == {} for trial in trials().values())
    assert all(recipe.versions == {} for trial in trials().values() for recipe in (trial.original, trial.retrain))


#: Whose version is raised, and which ids of neggrad's trial it moves.
AFFECTED = {
    "task": (lambda: TASKS.get("digits"), {"original", "retrain", "neggrad"}, {"original", "retrain"}),
    "model": (lambda: MODELS.get("cnn-small"), {"original", "retrain", "neggrad"}, {"original", "retrain"}),
    "sampler": (lambda: SAMPLERS.get("class_balanced"), {"original", "retrain", "neggrad"}, {"retrain"}),
    "method": (lambda: METHODS.get("neggrad"), {"neggrad"}, set()),
}


@pytest.mark.parametrize("kind", AFFECTED)
def test_a_raised_version_moves_what_it_affects(kind, monkeypatch):
    thing, moved_trials, moved_recipes = AFFECTED[kind]
    before = trials()
    monkeypatch.setattr(thing(), "version", 2, raising=False)
    after = trials()
    assert {name for name in before if before[name].id != after[name].id} == moved_trials
    kinds = {"original": lambda trial: trial.original.id, "retrain": lambda trial: trial.retrain.id}
    assert {name for name, of in kinds.items() if of(before["neggrad"]) != of(after["neggrad"])} == moved_recipes


def test_the_loops_version_only_where_a_set_ends_with_a_batch_of_one():
    """300 examples, 15 of them forgotten: 285 = 17 * 16 + 13 = 4 * 71 + 1."""
    cut = {"tasks": {"name": "digits", "subset": 300}}
    assert trials(**cut, training={"batch_size": 16})["retrain"].versions == {}
    retrained = trials(**cut, training={"batch_size": 71})
    assert retrained["retrain"].versions == {"retrain": versions.LOOP}
    assert retrained["neggrad"].original.versions == {} and retrained["neggrad"].retrain.versions == {
        "training": versions.LOOP
    }
    unlearned = trials(**cut, unlearning={"batch_size": 71})
    assert unlearned["neggrad"].versions == {"unlearning": versions.LOOP} and unlearned["retrain"].versions == {}


def test_the_loops_version_where_a_method_draws_sets_of_its_own():
    bad_t = [{"name": "bad_t", "form": "mixed"}, {"name": "bad_t", "form": "mixed", "retain_share": 0.3}, "bad_t"]
    found = make_plan(make_suite({**BASE, "methods": bad_t})).trials.values()
    assert [trial.versions.get("unlearning") for trial in found] == [None, versions.LOOP, None]


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    METHODS.names()
    monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))
    monkeypatch.setattr(METHODS, "_spellings", dict(METHODS._spellings))


def edited(path, name, result):
    path.write_text(METHOD.format(name=name, result=result))
    load_plugin(path)
    return trials(methods=["original", name])


def test_a_plugins_method_is_another_one_where_its_code_is(tmp_path, registered):
    first = edited(tmp_path / "first.py", "mine", "[]")
    second = edited(tmp_path / "second.py", "mine_edited", "list()")
    assert first["original"].id == second["original"].id == trials()["original"].id
    assert first["mine"].versions["method"].startswith("1:")
    assert first["mine"].versions != second["mine_edited"].versions


def test_two_plugins_whose_files_have_one_name(tmp_path, registered):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    edited(tmp_path / "a" / "my_method.py", "of_a", "[]")
    before = trials(methods="of_a")["of_a"].id
    edited(tmp_path / "b" / "my_method.py", "of_b", "list()")
    versions.module_hash.cache_clear()
    assert trials(methods="of_a")["of_a"].id == before
    assert trials(methods="of_b")["of_b"].versions != trials(methods="of_a")["of_a"].versions


HELPED = '''
from __future__ import annotations
import {helper}
from mubench_ray.methods import Method, method
from mubench_ray.methods import ft

@method("{name}", title="Mine", cites="a test")
class Mine(Method):
    """Nothing."""
    def phases(self, ctx):
        from {helper}.late import more
        return more
'''


def helped(folder, number, **files) -> tuple:
    """The version of a plugin's method that imports a package lying beside it, and of what this one imports."""
    helper = f"helper_{number}"
    texts = {"__init__": "from .deep import x", "deep": "x = 1", "late": "more = []", "unused": "x = 1"} | files
    (folder / helper).mkdir()
    for name, text in texts.items():
        (folder / helper / f"{name}.py").write_text(text)
    (folder / f"plugin_{number}.py").write_text(HELPED.format(helper=helper, name=f"helped_{number}"))
    load_plugin(folder / f"plugin_{number}.py")
    before = versions.version_of(METHODS.get(f"helped_{number}"), 1)
    METHODS.get(f"helped_{number}")().phases(None)  # what it imports late is loaded now
    versions.imported_by.cache_clear()
    assert versions.version_of(METHODS.get(f"helped_{number}"), 1) == before
    return tuple(before.split(":")[2:])


def test_what_a_plugin_imports_and_is_of_its_owner_is_of_its_version(tmp_path, registered, monkeypatch):
    """An edited helper was the same trial."""
    monkeypatch.syspath_prepend(str(tmp_path))
    hashes = [
        helped(tmp_path, number, **files)
        for number, files in enumerate([{}, {"unused": "x = 2"}, {"deep": "x = 2"}, {"late": "more = list()"}])
    ]
    assert [len(each) for each in hashes] == [3, 3, 3, 3]  # the package, deep, late
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_a_plugin_that_imports_libraries_alone_has_one_hash(tmp_path, registered):
    (tmp_path / "alone.py").write_text(
        "import os, numpy.linalg\nfrom torch import nn\n" + METHOD.format(name="alone", result="[]")
    )
    load_plugin(tmp_path / "alone.py")
    assert versions.version_of(METHODS.get("alone"), 1) == f"1:{versions.module_hash('mubench_plugin_alone')}"


@pytest.mark.parametrize(("other", "same"), [("x = 1  # why\n\n", True), ("x = 2\n", False)])
def test_a_hash_of_the_syntax_alone(tmp_path, other, same):
    from importlib import import_module
    from sys import path

    path.insert(0, str(tmp_path))
    try:
        names = f"hashed_{same}_one", f"hashed_{same}_two"
        for name, text in zip(names, ("x = 1\n", other), strict=True):
            (tmp_path / f"{name}.py").write_text(text)
            import_module(name)
        assert (versions.module_hash(names[0]) == versions.module_hash(names[1])) is same
    finally:
        path.remove(str(tmp_path))


def test_the_step_before_has_versions_of_its_own():
    cut = {
        "tasks": {"name": "digits", "subset": 300},
        "ratios": [5, 10],
        "sequence": True,
        "training": {"batch_size": 71},
    }
    plan = make_plan(make_suite({**BASE, **cut, "methods": ["neggrad"]}))
    for trial in plan.trials.values():
        assert set(plan.needs(trial)) <= plan.trials.keys() | plan.recipes.keys()
        if trial.after:
            assert versions.step_before(trial).id in plan.trials


def test_a_checkpoint_on_this_machine_counts_by_what_lies_there(tmp_path):
    """Other weights under one path once took the artifacts of the first."""
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"first")
    first = versions.with_weights(2, str(folder))
    assert first == versions.with_weights(2, str(folder)) and first.startswith("2:")
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "model.safetensors").write_bytes(b"first")
    assert versions.with_weights(2, str(copied)) == first
    (folder / "model.safetensors").write_bytes(b"other, longer")
    assert versions.with_weights(2, str(folder)) != first
    assert versions.with_weights(2, "published") == 2 == versions.with_weights(2, "someone/network@0123abc")
    assert versions.with_weights(1, None) == 1


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder with a network, in the folder that commands are typed in."""
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "model.safetensors").write_bytes(b"first")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mubench_ray.engine.plan.check_checkpoint", lambda *_: None)  # of what the bytes mean
    return tmp_path / "ck"


@pytest.mark.parametrize("key", ["pretrained", "original"])
def test_one_checkpoint_is_one_trial_however_its_path_is_spelled(checkpoint, key):
    """Three trials, three originals and three lines once."""
    found = [
        trials(models={"name": "cnn-small", key: name})["neggrad"] for name in ("ck", "./ck", "ck/", str(checkpoint))
    ]
    assert len({trial.id for trial in found}) == len({trial.configuration for trial in found}) == 1
    assert len({recipe.id for trial in found for recipe in (trial.original, trial.retrain)}) == 2
    assert json.loads(found[2].configuration)["setting"][key if key == "pretrained" else "original_checkpoint"] == "ck"
    # Anywhere else the row says the same of itself.
    checkpoint.rename(checkpoint.with_name("gone"))
    assert Trial.model_validate_json(found[1].model_dump_json()).id == found[0].id


def test_a_plan_looks_at_a_checkpoint_once_and_the_next_plan_again(checkpoint, monkeypatch):
    looks, hashed = [], versions.weights_hash
    monkeypatch.setattr(versions, "weights_hash", lambda source: looks.append(source) or hashed(source))
    models = {"name": "cnn-small", "pretrained": "ck"}
    before = trials(models=models, seeds=[1, 2, 3])
    assert looks == ["ck"]
    (checkpoint / "model.safetensors").write_bytes(b"other, longer")
    after = trials(models=models, seeds=[1, 2, 3])
    assert looks == ["ck", "ck"] and before["neggrad"].id != after["neggrad"].id


def test_an_edited_base_class_is_another_method(tmp_path, registered):
    """Of another file of the user's; a partial is what it wraps."""
    text = METHOD.format(name="based", result="[]")
    (tmp_path / "base.py").write_text(text)
    load_plugin(tmp_path / "base.py")
    cls = METHODS.get("based")
    child = type("Child", (cls,), {"__module__": __name__})
    assert versions.version_of(child, 1).endswith(versions.module_hash(cls.__module__))
    assert versions.version_of(functools.partial(edited), 1) == versions.version_of(edited, 1) != 1
