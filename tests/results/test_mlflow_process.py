"""The copy to MLflow in a process of its own: rows arrive, and it never outlives the run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

from mubench_ray.results.mlflow_process import following
from mubench_ray.results.store import Store
from tests.results.test_score import SIZES, make_trial, write


def fill(root, count):
    store, rng = Store(root), np.random.default_rng(0)
    store.create({"suite": "copied"})
    trials = [make_trial("ft", seed) for seed in range(count)]
    for trial in trials:
        write(store, trial, {split: rng.normal(size=size) for split, size in SIZES.items()})
    return {trial.id for trial in trials}


def copied(root):
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("copied")
    return sorted(run.data.tags["trial_id"] for run in client.search_runs([experiment.experiment_id]))


def test_what_is_left_at_the_end_is_copied_once(tmp_path):
    with following(tmp_path):
        ids = fill(tmp_path, 3)
    assert copied(tmp_path) == sorted(ids)
    with following(tmp_path):
        pass
    assert copied(tmp_path) == sorted(ids)


def test_nothing_is_imported_from_the_current_folder(tmp_path, planted, monkeypatch):
    monkeypatch.chdir(planted)
    with following(tmp_path):
        ids = fill(tmp_path, 1)
    assert not (tmp_path / "ran").exists()
    assert copied(tmp_path) == sorted(ids)


def test_an_outage_is_a_warning_and_costs_nothing(tmp_path, capfd):
    fill(tmp_path, 1)
    with following(tmp_path, "http://127.0.0.1:9"):
        pass
    assert "--sync-mlflow` catches up" in capfd.readouterr().err


PARENT = """
import sys, time
from mubench_ray.results.mlflow_process import following
with following(sys.argv[1]):
    print("following", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_ends_with_a_parent_that_is_killed(tmp_path):
    fill(tmp_path, 1)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "following\n"
    (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 60
    while os.path.exists(f"/proc/{child}") and time.monotonic() < until:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{child}")
