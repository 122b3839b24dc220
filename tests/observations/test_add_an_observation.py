"""docs/add-an-observation.md: its file gives its metric in a real run, also for trials that were there before it; nothing mixes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.plan import make_plan
from mubench_ray.results.observations import load_results, shown_of
from mubench_ray.results.repetitions import read_trials
from mubench_ray.results.store import Store
from mubench_ray.suite import load_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.observing import Wanted
from mubench_ray.trials.run_trial import run_trial
from tests.conformance.conftest import apart  # noqa: F401 - a fixture
from tests.engine.processes import finish
from tests.pages import Page, conforms


def run(folder, suite, expect=0):
    (folder / "flat.yaml").write_text(json.dumps(suite))
    return " ".join(finish("run", "flat.yaml", "--out", "out", expect=expect, cwd=folder).split())


def said(*arguments):
    return " ".join(CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False).output.split())


def test_the_page_s_observation_conforms(repository, tmp_path, apart):  # noqa: F811
    page = Page(repository / "docs" / "add-an-observation.md", tmp_path)
    page.load()
    with np.errstate(invalid="ignore"):  # its metric is tried on infinite losses too
        assert conforms("observations", "flatness") and conforms("metrics", "flatness")


def test_the_page_s_observation_is_made_for_trials_that_are_there(repository, tmp_path, monkeypatch, apart):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    page = Page(repository / "docs" / "add-an-observation.md", tmp_path)
    suite = page.suite | {"keep": "all", "resources": {"concurrency": 1}}
    assert suite["observations"] == {"name": "flatness", "draws": 2}
    sound = page.plugin.read_text()

    # One that fails costs no row, and is tried again.
    page.plugin.write_text(sound.replace("losses = []", 'raise ValueError("no such luck")'))
    told = run(tmp_path, suite, expect=1)
    assert "2 observations could not be made: flatness: ValueError: no such luck (x2)" in told
    assert "--retry-failed" in told
    store = Store(tmp_path / "out")
    rows = store.read("trials").sort_by("trial_id")
    assert len(rows) == 2 and set(rows["status"].to_pylist()) <= {"ok", "truncated"}
    assert sorted(path.stem for path in (store.root / "artifacts" / "steps").iterdir()) == rows["trial_id"].to_pylist()
    assert "flatness of 0 trials (2 failed)" in said("status", store.root)

    # Mended, its file is another version: it is made without being asked to try again.
    page.plugin.write_text(sound)
    run(tmp_path, suite)
    assert store.read("trials").sort_by("trial_id").equals(rows), "nothing was unlearned again"
    found = load_results(store.root).sort_by("trial_id")
    records = [record for record in store.read("observations").to_pylist() if record["status"] == "ok"]
    assert len(records) == 2 and json.loads(records[0]["options"]) == {"draws": 2}
    values = {record["trial_id"]: json.loads(record["values"])["flatness"] for record in records}
    assert dict(zip(found["trial_id"].to_pylist(), found["flatness"].to_pylist())) == values
    assert len(set(values.values())) == 2
    assert "observed: flatness of 2 trials" in said("status", store.root)
    # From the stored arrays, without the network.
    said("score", store.root, "--metric", "flatness", "--plugin", page.plugin)
    scored = pq.read_table(store.root / "scores" / "flatness.parquet")
    # The stored losses have single precision.
    assert dict(zip(scored["trial_id"].to_pylist(), scored["value"].to_pylist())) == pytest.approx(values, rel=1e-5)

    # Made with the trials it is the same.
    for trial in make_plan(load_suite("flat.yaml")).trials.values():
        outcome = run_trial(trial, ArtifactStore(tmp_path / "new"), wanted=[Wanted.now("flatness", {"draws": 2})])
        assert outcome.values["flatness"] == pytest.approx(values[trial.id])

    # With other options both lie there, and one is shown.
    run(tmp_path, suite | {"observations": {"name": "flatness", "draws": 1}})
    assert sum(record["status"] == "ok" for record in store.read("observations").to_pylist()) == 4
    now = load_results(store.root)
    assert not set(now["flatness"].to_pylist()) & set(values.values())
    (line,) = read_trials(store)[1]
    assert "draws 1 is shown" in line and "draws 2" in line
    assert [json.loads(each["options"]) for each in shown_of(store, now["trial_id"][0].as_py())] == [{"draws": 1}]
