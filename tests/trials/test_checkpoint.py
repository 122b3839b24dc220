"""A trial and an artifact that are killed with -9 while they run go on from their own checkpoint: the same numbers to the bit, and nothing for free."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from mubench_ray.engine.plan import make_plan
from mubench_ray.suite import make_suite
from mubench_ray.training.loop import Loop
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.run_trial import run_trial
from tests.conftest import CIRCUMSTANCES

#: Runs one node of a suite in a process of its own, slowed down and saving itself after every step, and says where it stands.
CHILD = """
import sys, time, yaml
import torch
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.engine.plan import make_plan
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.suite import make_suite
from mubench_ray.training.loop import Loop

torch.set_num_threads(1)
content, root, what = yaml.safe_load(sys.argv[1]), sys.argv[2], sys.argv[3]
step = Loop._step
def slow(self, phase, batches):
    time.sleep(0.02)
    print(phase.name, flush=True)
    return step(self, phase, batches)
Loop._step = slow
trial = next(iter(make_plan(make_suite(content)).trials.values()))
store = ArtifactStore(root, checkpoint_seconds=0.0)
if what == "trial":
    run_trial(trial, store, keep="all")
else:
    get_artifact(trial.original, store)
"""

METHODS = {
    # Two optimisers' worth of state: masks from a first phase, Adam's moments, labels drawn anew every epoch, and a curriculum that remembers.
    "salun": ({"name": "salun", "epochs": 2}, {"superloss": 10.0}, 20),
    # Epochs' ends to rewind to.
    "scrub": ({"name": "scrub", "epochs": 2, "msteps": 1}, {}, 12),
    # A helper network and its optimiser are the method's own state.
    "kga": ({"name": "kga", "epochs": 1, "helper_epochs": 2}, {}, 5),
    # Damped steps, after gradients of another phase.
    "msg": ({"name": "msg", "epochs": 2}, {}, 10),
    # The budget ends it: what was spent before the kill counts.
    "ft": ({"name": "ft", "epochs": 50}, {"optimizer": "sgd"}, 15),
}


def content_of(tiny, method, unlearning):
    return {**tiny, "methods": method, "ratios": 10, "unlearning": unlearning}


def killed_after(content, root, what, steps):
    """Start the child and end it with -9 after so many steps."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, repr(content), str(root), what],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for _ in range(steps):
        assert child.stdout.readline(), "it ended before it could be killed"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def counted(trial, store, monkeypatch):
    """The trial's outcome, and how many steps it took for it here and now."""
    taken, step = [], Loop._step
    with monkeypatch.context() as patch:
        patch.setattr(
            Loop, "_step", lambda self, phase, batches: taken.append(phase.name) or step(self, phase, batches)
        )
        outcome = run_trial(trial, store, keep="all")
    return outcome, len(taken)


def weights(root, trial):
    return load_file(root / "steps" / f"{trial.id}.safetensors")


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_trial_goes_on_from_its_checkpoint(tiny, tmp_path, name, monkeypatch):
    method, unlearning, steps = METHODS[name]
    content = content_of(tiny, method, unlearning)
    trial = next(iter(make_plan(make_suite(content)).trials.values()))
    disturbed = ArtifactStore(tmp_path / "disturbed", checkpoint_seconds=300)
    for recipe in (trial.original, trial.retrain):
        get_artifact(recipe, disturbed)
    shutil.copytree(disturbed.root, tmp_path / "undisturbed")
    undisturbed, in_all = counted(trial, ArtifactStore(tmp_path / "undisturbed"), monkeypatch)
    killed_after(content, disturbed.root, "trial", steps)
    progress = disturbed.progress(trial.id)
    saved = progress.load()
    assert saved["meter"]["flos"] > 0 and saved["position"] is not None
    again, taken = counted(trial, disturbed, monkeypatch)
    for column in undisturbed.row.keys() - CIRCUMSTANCES:
        assert again.row[column] == undisturbed.row[column], column
    one, other = weights(tmp_path / "undisturbed", trial), weights(disturbed.root, trial)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert [{k: v for k, v in p.items() if k != "seconds"} for p in again.curve] == [
        {k: v for k, v in p.items() if k != "seconds"} for p in undisturbed.curve
    ]
    assert again.row["seconds"] > saved["meter"]["seconds"] > 0
    assert 0 < taken <= in_all - steps + 1, "it goes on; it does not start anew"


def test_a_killed_training_goes_on_from_its_checkpoint(tiny, tmp_path):
    content = content_of(tiny, {"name": "ft", "epochs": 1}, {})
    recipe = next(iter(make_plan(make_suite(content)).trials.values())).original
    whole = get_artifact(recipe, ArtifactStore(tmp_path / "whole"))
    killed_after(content, tmp_path / "killed", "original", 15)
    store = ArtifactStore(tmp_path / "killed", checkpoint_seconds=300)
    saved = store.progress(recipe.id).load()
    assert saved["position"][1] >= 10
    again = get_artifact(recipe, store)
    assert (again.folder / "weights.safetensors").read_bytes() == (whole.folder / "weights.safetensors").read_bytes()
    assert again.flos == whole.flos and again.seconds > saved["meter"]["seconds"]
    assert not store.progress(recipe.id).path.exists()


def test_a_quick_run_never_saves(tiny, tmp_path):
    content = content_of(tiny, {"name": "ft", "epochs": 1}, {})
    trial = next(iter(make_plan(make_suite(content)).trials.values()))
    store = ArtifactStore(tmp_path, checkpoint_seconds=300)
    started = time.monotonic()
    assert run_trial(trial, store).row["status"] == "ok" and time.monotonic() - started < 300
    assert not (tmp_path / "progress").exists()
