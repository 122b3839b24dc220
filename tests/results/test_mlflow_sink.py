"""Real sqlite, real rows, real outages."""

from __future__ import annotations

import logging
import threading
import time

import mlflow
import pytest

from mubench_ray.engine.artifacts import ArtifactStore
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run_trial import failed_outcome, metric_names, run_trial
from mubench_ray.results.mlflow_sink import MlflowSink, default_uri
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite


@pytest.fixture(scope="module")
def outcomes(tiny, tmp_path_factory):
    plan = make_plan(make_suite({**tiny, "methods": ["original", "ft", "neggrad"], "ratios": 10, "training": {"epochs": 1}}))
    artifacts = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    trials = list(plan.trials.values())
    return [*(run_trial(trial, artifacts) for trial in trials[:2]), failed_outcome(trials[2], "for the test")]


@pytest.fixture
def store(outcomes, tmp_path):
    store = Store(tmp_path)
    store.create({"suite": "sinking"})
    for outcome in outcomes:
        store.write(outcome, metric_names())
    return store


def runs(store):
    client = mlflow.MlflowClient(default_uri(store.root))
    experiment = client.get_experiment_by_name("sinking")
    return client, {run.data.tags["trial_id"]: run for run in client.search_runs([experiment.experiment_id])}


def test_a_run_a_trial_with_all_that_the_row_says(store, outcomes):
    assert MlflowSink(store.root).sync() == 3
    client, by_id = runs(store)
    row = outcomes[1].row
    run = by_id[row["trial_id"]]
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "ft" and float(run.data.params["epochs"]) == 5 and float(run.data.params["lr"]) == 5e-4
    assert run.data.metrics["test_accuracy"] == pytest.approx(row["test_accuracy"])
    assert run.data.metrics["flos"] == row["flos"]
    points = client.get_metric_history(run.info.run_id, "curve/forget_accuracy")
    assert len({p.step for p in points}) == len({round(1000 * p["retrain_share"]) for p in outcomes[1].curve})
    failed = by_id[outcomes[2].row["trial_id"]]
    assert failed.info.status == "FAILED" and failed.data.tags["error"] == "for the test"


def test_a_second_sync_adds_nothing(store):
    assert MlflowSink(store.root).sync() == 3
    assert MlflowSink(store.root).sync() == 0
    assert len(runs(store)[1]) == 3


def test_a_run_that_a_crash_left_half_written_is_replaced(store, outcomes):
    sink = MlflowSink(store.root)
    sink.sync()
    client, by_id = runs(store)
    half = by_id[outcomes[1].row["trial_id"]].info.run_id
    client.delete_tag(half, "complete")
    assert MlflowSink(store.root).sync() == 1
    _, again = runs(store)
    assert len(again) == 3 and again[outcomes[1].row["trial_id"]].info.run_id != half


def test_rows_of_merged_files_are_copied_too(store):
    store.compact(at_least=2)
    assert MlflowSink(store.root).sync() == 3


def test_following_copies_rows_as_they_come(outcomes, tmp_path):
    store = Store(tmp_path)
    store.create({"suite": "sinking"})
    stop = threading.Event()
    thread = threading.Thread(target=MlflowSink(store.root).follow, args=(stop, 0.1))
    thread.start()
    store.write(outcomes[0], metric_names())
    until = time.monotonic() + 60
    while time.monotonic() < until and not (tmp_path / "mlflow.db").exists():
        time.sleep(0.1)
    store.write(outcomes[1], metric_names())
    stop.set()
    thread.join(60)
    assert len(runs(store)[1]) == 2


def test_an_outage_is_one_warning_and_is_caught_up(store, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    stop = threading.Event()
    stop.set()
    with caplog.at_level(logging.WARNING):
        MlflowSink(store.root, "http://127.0.0.1:9").follow(stop, 0.1)
    assert [record for record in caplog.records if "--sync-mlflow" in record.getMessage()]
    assert MlflowSink(store.root).sync() == 3
