"""A whole suite whose results, artifacts and checkpoints lie in an object store, and that store away in the middle of it."""

from __future__ import annotations

import time

import pytest
import yaml

from mubench_ray.results.store import Store, load_results
from tests.conftest import outcome_columns
from tests.engine.processes import finish, mubench, said
from tests.object_store import start_object_store


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
