"""Real sqlite, real rows, real outages."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.results.configurations import setting_names
from mubench_ray.results.locks import held
from mubench_ray.results.mlflow_sink import RUNS_FILE, MlflowSink, default_uri, quiet, ui_command, without_password
from mubench_ray.results.store import Outcome, Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.rows import failed_outcome
from mubench_ray.trials.run_trial import metric_names, run_trial


@pytest.fixture(scope="module")
def outcomes(tiny, tmp_path_factory):
    plan = make_plan(
        make_suite({**tiny, "methods": ["original", "ft", "neggrad"], "ratios": 10, "training": {"epochs": 1}})
    )
    artifacts = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    trials = list(plan.trials.values())
    return [*(run_trial(trial, artifacts) for trial in trials[:2]), failed_outcome(trials[2], "for the test")]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty database of MLflow's, which takes seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    quiet()
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(outcomes, database, tmp_path):
    store = Store(tmp_path / "results")
    store.create({"suite": "sinking"})
    shutil.copy(database, store.root / "mlflow.db")
    for outcome in outcomes:
        store.write(outcome, metric_names())
    return store


def runs(store):
    client = mlflow.MlflowClient(default_uri(store.root))
    experiment = client.get_experiment_by_name("sinking")
    return client, {run.data.tags["trial_id"]: run for run in client.search_runs([experiment.experiment_id])}


def test_a_run_a_trial_with_all_that_the_row_says(store, outcomes):
    assert MlflowSink(store.root).sync() == 3
    _, by_id = runs(store)
    row = outcomes[1].row
    run = by_id[row["trial_id"]]
    assert run.info.status == "FINISHED"
    cut = "‡" if row["status"] == "truncated" else ""
    assert run.info.run_name == f"ft{cut}-digits-cnn-small-10-{row['seed']}"
    params = run.data.params
    assert params["method"] == "ft" and params["forget_size"] == "30" and params["training.epochs"] == "1.0"
    assert float(params["lr"]) == 5e-4 and float(params["ratio"]) == 10
    assert float(params["hyperparameters.epochs"]) == json.loads(row["hyperparameters"])["epochs"]
    for name in metric_names():
        assert run.data.metrics.get(name) == row[name], name
    assert run.data.metrics["flos"] == row["flos"]
    assert run.data.tags["status"] == row["status"] and run.data.tags["configuration"] == row["configuration"]
    assert run.data.tags["uses_validation"] == "False"
    failed = by_id[outcomes[2].row["trial_id"]]
    assert failed.info.status == "FAILED" and failed.data.tags["error"] == "for the test"
    assert not failed.data.metrics.keys() & set(metric_names())


def test_what_is_to_be_doubted_stands_in_tags(store, outcomes):
    """The marks of the method at once, the verdicts of the controls when they are there, on runs that were copied before."""
    sink = MlflowSink(store.root)
    assert sink.sync() == 3
    original, row = outcomes[0].row, outcomes[1].row
    run = runs(store)[1][original["trial_id"]]
    assert run.data.tags["marks"] == "control" and run.info.run_name.startswith("original°-")
    assert run.data.tags["mlflow.note.content"].startswith("° control: ")
    task, model = setting_names([row["configuration"]])[row["configuration"]]
    cell = {"task": task, "model": model, "ratio": row["ratio"]}
    verdicts = [
        cell | {"metric": "u_mia", "verdict": "untrusted"},
        cell | {"metric": "zrf", "verdict": "not checkable"},
    ]
    verdicts += [cell | {"metric": "indisc", "verdict": "untrusted"}]
    verdicts += [cell | {"metric": "forget_loss", "verdict": "untrusted", "smallest_difference": 0.25}]
    store.write_text("controls.json", json.dumps({"verdicts": verdicts}))
    assert sink.sync() == 0
    tags = runs(store)[1][row["trial_id"]].data.tags
    assert (tags["untrusted"], tags["unchecked"]) == ("indisc, u_mia", "zrf")
    said = tags["mlflow.note.content"].split("\n\n")
    assert (
        said[0]
        == f"{task} · {model} · 10 %: original and retrain are not told apart by their loss on D_F; a difference of 0.25 could have been seen."
    )
    assert said[-2].startswith("§ untrusted: ") and said[-2].endswith(": indisc, u_mia")
    store.write_text("controls.json", json.dumps({"verdicts": verdicts[:2]}))
    assert MlflowSink(store.root).sync() == 0  # another process
    assert runs(store)[1][row["trial_id"]].data.tags["untrusted"] == "u_mia"
    store.write_text("controls.json", json.dumps({"verdicts": []}))
    assert sink.sync() == 0
    tags = runs(store)[1][row["trial_id"]].data.tags
    assert not tags["untrusted"] and not tags["unchecked"] and "untrusted" not in tags["mlflow.note.content"]


def test_the_end_of_a_run_holds_measures_to_their_controls(store, outcomes):
    stop = threading.Event()
    stop.set()
    MlflowSink(store.root).follow(stop, every=0.01)
    tags = runs(store)[1][outcomes[1].row["trial_id"]].data.tags
    assert "u_mia" in tags["unchecked"].split(", ")  # one seed


def test_a_curve_is_a_series_over_the_permille_of_the_retrain(store, outcomes):
    MlflowSink(store.root).sync()
    client, by_id = runs(store)
    for outcome in outcomes[:2]:
        run = by_id[outcome.row["trial_id"]]
        series = client.get_metric_history(run.info.run_id, "curve/forget_accuracy")
        assert [p.value for p in sorted(series, key=lambda p: p.step)] == [p["forget_accuracy"] for p in outcome.curve]
        steps = sorted(p.step for p in series)
        assert len(set(steps)) == len(outcome.curve)
        assert steps[-1] == pytest.approx(1000 * outcome.curve[-1]["retrain_share"], abs=len(steps))


def test_a_second_sync_adds_nothing(store):
    sink = MlflowSink(store.root)
    assert sink.sync() == 3 and sink.sync() == 0
    assert MlflowSink(store.root).sync() == 0
    assert len(runs(store)[1]) == 3


def test_where_each_run_is_stands_beside_the_tables(store, outcomes):
    MlflowSink(store.root).sync()
    path = store.root / RUNS_FILE
    known = {row["trial_id"]: row for row in pq.read_table(path).to_pylist()}
    client, by_id = runs(store)
    assert {trial_id: row["run_id"] for trial_id, row in known.items()} == {
        trial_id: run.info.run_id for trial_id, run in by_id.items()
    }
    experiment = client.get_experiment_by_name("sinking").experiment_id
    assert {(row["experiment_id"], row["tracking_uri"]) for row in known.values()} == {
        (experiment, default_uri(store.root))
    }
    before = path.stat().st_mtime_ns
    path_of_a_row = store.root / "trials" / f"{outcomes[0].row['trial_id']}.parquet"
    assert path_of_a_row.exists() and MlflowSink(store.root).sync() == 0
    assert path.stat().st_mtime_ns == before
    path.unlink()
    MlflowSink(store.root).sync()
    assert path.is_file(), "a folder of an earlier release gets its map with the next copy"


def test_passwords_are_not_written_down():
    assert without_password("https://me:secret@runs.example:5000/x") == "https://runs.example:5000/x"
    assert without_password("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_a_run_that_a_crash_left_half_written_is_replaced(store, outcomes):
    row = outcomes[1].row
    quiet()
    client = mlflow.MlflowClient(default_uri(store.root))
    half = client.create_run(client.create_experiment("sinking"), tags={"trial_id": row["trial_id"]}).info.run_id
    client.log_metric(half, "test_accuracy", -1.0)
    assert MlflowSink(store.root).sync() == 3
    _, again = runs(store)
    assert len(again) == 3 and again[row["trial_id"]].data.metrics["test_accuracy"] == row["test_accuracy"]


def test_a_trial_that_was_run_again_replaces_its_run(store, outcomes):
    sink = MlflowSink(store.root)
    sink.sync()
    row = outcomes[2].row
    store.forget_rows(("failed",))
    again = {**row, "error": "another reason", "finished_at": row["finished_at"] + timedelta(minutes=1)}
    store.write(Outcome(again), metric_names())
    assert MlflowSink(store.root).sync() == 1
    _, by_id = runs(store)
    assert len(by_id) == 3 and by_id[row["trial_id"]].data.tags["error"] == "another reason"


def test_a_run_of_somebody_else_is_left_alone(store):
    quiet()
    client = mlflow.MlflowClient(default_uri(store.root))
    mine = client.create_run(client.create_experiment("sinking")).info.run_id
    assert MlflowSink(store.root).sync() == 3
    assert client.get_run(mine).info.lifecycle_stage == "active"


def test_two_do_not_copy_at_once(store):
    held_elsewhere = held(store.root / ".mlflow.lock", "")
    with held_elsewhere, pytest.raises(MubenchError, match="Another mubench is copying"):
        MlflowSink(store.root).sync()
    assert MlflowSink(store.root).sync() == 3


def test_it_says_nothing_and_leaves_nothing_elsewhere(store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.root / "mlflow.db").unlink()
    code = f"from mubench_ray.results.mlflow_sink import MlflowSink; print(MlflowSink({str(store.root)!r}).sync())"
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n" and done.stderr == ""
    assert not list(elsewhere.iterdir())


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


def test_an_outage_is_one_warning_until_the_end_and_is_caught_up(store, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    stop, failures = threading.Event(), []
    with caplog.at_level(logging.WARNING):
        sink = MlflowSink(store.root, address)
        thread = threading.Thread(target=lambda: failures.append(sink.follow(stop, 0.01)))
        thread.start()
        until = time.monotonic() + 60
        while time.monotonic() < until and not caplog.records:
            time.sleep(0.05)
        time.sleep(0.5)
        during = [record.getMessage() for record in caplog.records if "--sync-mlflow" in record.getMessage()]
        stop.set()
        thread.join(60)
    assert failures == [None], "follow came to its end and raised nothing"
    assert len(during) == 1 and address in during[0]
    assert MlflowSink(store.root).sync() == 3 and MlflowSink(store.root).sync() == 0
    assert len(runs(store)[1]) == 3


def test_the_last_copy_is_limited_in_time(store, caplog, monkeypatch):
    monkeypatch.setattr("mubench_ray.results.mlflow_sink.LAST_SYNC_SECONDS", 0.0)
    stop = threading.Event()
    stop.set()
    with caplog.at_level(logging.WARNING):
        MlflowSink(store.root).follow(stop, 0.01)
    assert "3 rows are not copied yet" in caplog.text
    assert MlflowSink(store.root).sync() == 3


def test_a_server_takes_the_rows_too(store, outcomes, database, tmp_path, planted):
    """Over http, from the very command of `mubench ui`, run on another folder, inside one in which code lies."""
    served = Store(tmp_path / "served")
    served.create({"suite": "served"})
    with pytest.raises(MubenchError, match=r"no mlflow\.db yet"):
        ui_command(served.root)
    shutil.copy(database, served.root / "mlflow.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("w") as log:
        command = ui_command(served.root, port)
        server = subprocess.Popen(command, cwd=planted, stdout=log, stderr=log, start_new_session=True)
    try:
        assert answers(f"{address}/health", server), (tmp_path / "server.log").read_text()
        assert MlflowSink(store.root, address).sync() == 3
        assert MlflowSink(store.root, address).sync() == 0
        assert not (tmp_path / "ran").exists()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    client = mlflow.MlflowClient(default_uri(served.root))
    found = client.search_runs([client.get_experiment_by_name("sinking").experiment_id])
    assert {run.data.tags["trial_id"] for run in found} == store.finished()


def answers(url, server):
    until = time.monotonic() + 90
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.2)
    return False


def test_the_ui_of_a_folder_whose_runs_are_on_a_server_names_the_server(tmp_path):
    Store(tmp_path).create({"suite": "away", "mlflow_uri": "http://tracking.example:5000"})
    with pytest.raises(MubenchError, match=r"http://tracking\.example:5000"):
        ui_command(tmp_path)
