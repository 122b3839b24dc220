"""A whole suite whose results, artifacts and checkpoints lie in an object store, and that store away in the middle of it."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
import torch
import yaml

from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import run_suite
from mubench_ray.errors import ResultsError
from mubench_ray.results.locks import exclusive
from mubench_ray.results.observations import load_results
from mubench_ray.results.storage import Place
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore, Damaged
from mubench_ray.trials.originals import get_artifact
from tests.conftest import outcome_columns
from tests.engine.processes import finish, mubench, said
from tests.object_store import start_object_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def objects():
    yield from start_object_store()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """What this machine keeps of object stores, apart from the user's own."""
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def suite_file(tiny, folder, **changes):
    path = folder / "small.yaml"
    content = {
        **tiny,
        "methods": ["original", "retrain", "neggrad", {"name": "ft", "epochs": 1}],
        "training": {"epochs": 2},
    }
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def test_a_suite_in_an_object_store_equals_one_in_a_folder(tiny, here, objects):
    suite = suite_file(tiny, here)
    address = objects.address("whole")
    output = finish("run", suite, "--out", address)
    assert "secret" not in output and "s3://mubench/whole/report" in output and "mlflow.db" in output
    finish("run", suite, "--out", here / "folder")
    rows = outcome_columns(load_results(address))
    assert rows == outcome_columns(load_results(here / "folder")) and len(rows) == 8
    store = Store(address)
    assert store.place.exists("report/leaderboard.html") and not store.place.exists(".lock")
    assert len(store.place.inside("artifacts").names(next(iter(artifacts(store))))) == 3
    assert "8 of 8 trials done" in finish("status", address)
    assert rows[0]["trial_id"] in finish("logs", address, rows[0]["trial_id"])
    assert "8 of 8 trials had their row already" in finish("run", suite, "--out", address)


def artifacts(store):
    infos = store.place.inside("artifacts")._infos("", recursive=True)
    return {info.path.split("/")[-2] for info in infos}


def test_the_store_killed_in_the_middle(tiny, here, objects, monkeypatch):
    """The run ends with one line, nothing half written; the same command completes it."""
    monkeypatch.setenv("MUBENCH_STORAGE_PATIENCE", "2")
    suite = suite_file(tiny, here, seeds=[1, 2, 3])
    address = objects.address("killed")
    process = mubench("run", suite, "--out", address)
    until = time.monotonic() + 120
    while time.monotonic() < until and len(written(address)) < 3:
        time.sleep(0.1)
    objects.cut()
    try:
        output = said(process, expect=1)
    finally:
        objects.mend()
    assert "the same command goes on" in output and "Traceback" not in output and "secret" not in output
    left = written(address)
    assert 3 <= len(left) < 24
    output = finish("run", suite, "--out", address)
    assert f"{len(left)} of 24 trials had their row already" in output
    finish("run", suite, "--out", here / "folder")
    assert outcome_columns(load_results(address)) == outcome_columns(load_results(here / "folder"))


def written(address):
    store = Store(address)
    return store.finished() if store.check() else set()


def machine(monkeypatch, folder):
    """What follows sees nothing of what another machine has copied."""
    monkeypatch.setenv("MUBENCH_CACHE", str(folder))


def test_weights_and_checkpoints_travel_between_machines(objects, tmp_path, monkeypatch):
    address = objects.address("travel")
    torch.manual_seed(0)
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    machine(monkeypatch, tmp_path / "first")
    store = ArtifactStore(address, checkpoint_seconds=0.0)
    store.keep("step", one)
    store.progress("trial").save({"meter": {"flos": 7.0}, "position": (0, 3)})
    machine(monkeypatch, tmp_path / "second")
    store = ArtifactStore(address, checkpoint_seconds=0.0)
    assert store.has_kept("step") and not store.has_kept("another")
    store.load_kept("step", other)
    assert torch.equal(one.weight, other.weight)
    saved = store.progress("trial")
    assert saved.load() == {"meter": {"flos": 7.0}, "position": (0, 3)}
    saved.remove()
    assert not store.progress("trial").path.is_file() and not store.place.names("progress")
    store.place.write("progress/trial.pt", b"no checkpoint")
    with pytest.warns(UserWarning, match="cannot be used"):
        assert store.progress("trial").load() is None
    assert not store.place.names("progress"), "nobody finds it again"


def test_a_damaged_artifact_is_noticed_on_either_side_and_made_anew(tiny, objects, tmp_path, monkeypatch):
    machine(monkeypatch, tmp_path / "cache")
    plan = make_plan(make_suite({**tiny, "methods": "retrain", "ratios": 10, "training": {"epochs": 1}}))
    recipe = next(iter(plan.retrains))
    store = ArtifactStore(objects.address("damaged"))
    first = get_artifact(recipe, store)
    # The copy here: fetched again. What lies there: trained again.
    (first.folder / "weights.safetensors").write_bytes(b"half")
    assert store.load(recipe).flos == first.flos
    there = store.place.inside(recipe.id)
    name = next(name for name in there.names() if name.endswith("weights.safetensors"))
    there.write(name, b"half")
    (first.folder / "weights.safetensors").unlink()
    with pytest.raises(Damaged):
        store.load(recipe)
    assert get_artifact(recipe, store).flos == first.flos
    assert there.read(name) != b"half"


def test_a_second_driver_changes_nothing(tiny, objects):
    place = Place(objects.address("refused"))
    with exclusive(place):
        before = {name: place.read(name) for name in place.names()}
        with pytest.raises(ResultsError, match="Another mubench"):
            run_suite(make_suite(tiny), place.address)
        assert {name: place.read(name) for name in place.names()} == before and list(before) == [".lock"]


def test_one_driver_at_a_time(objects):
    """A lease that is given back at the end, and void at once where its process is dead."""
    place = Place(objects.address("leased"))
    with (
        exclusive(place),
        pytest.raises(ResultsError, match=f"process {os.getpid()} on .* is writing to s3://mubench/leased"),
        exclusive(place),
    ):
        pass
    with exclusive(place):
        held = json.loads(place.read(".lock"))
    assert not place.exists(".lock")
    dead = subprocess.Popen(["true"])
    dead.wait()
    place.write(".lock", json.dumps({**held, "pid": dead.pid}))
    with exclusive(place):
        pass
    place.write(".lock", json.dumps({**held, "host": "elsewhere"}))
    with pytest.raises(ResultsError, match="on elsewhere"), exclusive(place):
        pass
    place.write(".lock", json.dumps({**held, "host": "elsewhere", "until": time.time() - 1}))
    with exclusive(place):
        pass
