"""Trials that two workers share, through real Ray Tune and Ray Train: the rows of one worker, and what happens when a worker dies or fails alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from torch.distributed import TCPStore

from mubench_ray.engine.job import Job
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.train import Messages, RankFailed, WorkerGroup, failure_of
from mubench_ray.engine.worker import Worker
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.results.observations import load_results
from mubench_ray.suite import Resources, make_suite
from mubench_ray.training.distributed import World
from mubench_ray.trials.artifacts import Artifact, ArtifactStore
from mubench_ray.trials.rows import terms_of, unlike_terms
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import budgeted_meter
from tests.conftest import CIRCUMSTANCES

PLUGIN = '''
import time
from pathlib import Path
import torch
import torch.distributed as dist
from mubench_ray.methods import Method, Phase, method, integer
from mubench_ray.trial import digest

@method("slow", title="Slow", cites="a test")
class Slow(Method):
    """Fine-tuning that takes its time."""
    epochs: int = integer(1, 10, default=1)
    def phases(self, ctx):
        def loss(ctx, batch):
            time.sleep(0.3)
            return ctx.loss(batch)
        return [Phase("slow", "retain", loss, epochs=self.epochs)]

@method("second_fails", title="Second fails", cites="a test")
class SecondFails(Method):
    """Only rank 1 is short of memory; rank 0 waits for it."""
    def phases(self, ctx):
        def loss(ctx, batch):
            if dist.is_initialized() and dist.get_rank() == 1:
                raise torch.OutOfMemoryError("CUDA out of memory, on purpose")
            return ctx.loss(batch)
        return [Phase("second_fails", "retain", loss)]
'''


def workers_of(parent):
    """The process ids of Train's workers below this process."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    parents = {int(pid): (int(ppid), args) for pid, ppid, args in (line.split(None, 2) for line in listed)}

    def below(pid):
        while pid in parents:
            if pid == parent:
                return True
            pid = parents[pid][0]
        return False

    return [pid for pid, (_, args) in parents.items() if args.startswith("ray::RayTrainWorker") and below(pid)]


@pytest.fixture(scope="module")
def disturbed(tiny, tmp_path_factory):
    """A suite of trials that two workers share, run by the real command line; one of the two is killed in the middle of a trial."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "plugin.py").write_text(PLUGIN)
    content = {**tiny, "ratios": 10, "plugins": [str(folder / "plugin.py")]}
    content["methods"] = ["retrain", {"name": "scrub", "epochs": 1, "msteps": 1}, "second_fails", "slow"]
    content["models"] = {"name": "cnn-small", "workers": 2}
    content["resources"] = {"checkpoint_seconds": 0.5}
    (folder / "suite.yaml").write_text(yaml.safe_dump(content))
    plan = make_plan(make_suite(content))
    slow = next(trial for trial in plan.trials.values() if trial.method == "slow")
    command = [sys.executable, "-m", "mubench_ray", "run", str(folder / "suite.yaml"), "--out", str(folder / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            saved = folder / "out" / "artifacts" / "progress" / f"{slow.id}.pt"
            while not saved.is_file():
                assert process.poll() is None, output.seek(0) or output.read()
                time.sleep(0.05)
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
            process.wait()
        finally:
            process.kill()
        output.seek(0)
        assert process.returncode == 1, output.read()  # one of them fails by intent
    rows = {row["method"]: row for row in load_results(folder / "out").to_pylist()}
    assert len(rows) == len(plan.trials) == 4
    return folder / "out", plan, rows


def test_the_rows_of_two_workers_are_those_of_one_also_when_a_worker_is_killed(disturbed, tmp_path):
    _, plan, rows = disturbed
    for trial in plan.trials.values():
        if trial.method == "second_fails":
            continue
        one, two = run_trial(trial, ArtifactStore(tmp_path)).row, rows[trial.method]
        assert (one["workers"], two["workers"]) == (1, 2)
        for column, value in one.items():
            if column not in CIRCUMSTANCES:
                # SCRUB begins where f_U is f_O: its first gradient is rounding alone, of which Adam makes steps, so that an example may change sides.
                counted = trial.method == "scrub" and not column.endswith("_loss")
                near = 0.02 if counted or column == "mia_two_sided_auc" else 1e-3
                expected = pytest.approx(value, rel=1e-3, abs=near) if isinstance(value, float) else value
                assert two[column] == expected, (trial.method, column)
        assert two["flos"] == pytest.approx(one["flos"], rel=1e-9)


def test_what_was_trained_together_says_so_and_nothing_is_left_lying_about(disturbed):
    out, plan, _ = disturbed
    made = [json.loads(path.read_text()) for path in (out / "artifacts").glob("*/meta.json")]
    assert [meta["workers"] for meta in made] == [2] * len(plan.recipes)
    assert not list((out / "artifacts" / "progress").glob("*"))
    assert not list((out / ".train").glob("*"))


def test_a_fault_of_one_rank_alone_is_its_row(disturbed):
    """Rank 0 would wait for it for ever."""
    rows = disturbed[2]
    failed = rows["second_fails"]
    assert failed["status"] == "out_of_memory" and "rank 1 of 2" in failed["error"] and "on purpose" in failed["error"]
    assert failed["workers"] == 2
    assert all(row["status"] in ("ok", "truncated") for row in rows.values() if row is not failed)


def test_seconds_are_compared_only_between_as_many_workers(tiny):
    trial = next(iter(make_plan(make_suite(tiny)).trials.values()))
    here = terms_of(trial, "cpu", 2)
    made = [Artifact(Path(), 1.0, 5.0, {}, workers=workers, terms=here | {"workers": workers}) for workers in (2, 1)]
    assert unlike_terms(made[0], trial, here) is None
    assert "eager, and this trial on cpu, fp32, eager, 2 workers" in (unlike_terms(made[1], trial, here) or "")
    caps = [budgeted_meter(trial, 1.0, 5.0, "cuda", among, World(0, 2)).cap_seconds for among in (1, 2)]
    assert caps == [5.0, None]


class Besieged(WorkerGroup):
    """A group whose workers are strangers: they reach the port of its store, and know no secret."""

    def _fit(self, port, *_):
        stranger = TCPStore(self._host, port, is_master=False)
        stranger.wait(["job 1"])
        stranger.set("answer 1", json.dumps({"status": "ok", "error": None, "stuck": False}))
        time.sleep(1)


def test_an_answer_of_a_stranger_is_refused(tiny, tmp_path):
    worker = Worker(frozenset(), str(tmp_path), str(tmp_path), None, (), "cpu", 1, 1)
    group = Besieged(worker, 2, Resources())
    with pytest.raises(MubenchError, match=r"'answer 1' .* is not of this run"):
        group.run(Job("trial", next(iter(make_plan(make_suite(tiny)).trials.values()))))


def test_a_message_counts_under_its_own_key_and_secret_only():
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ours, theirs = Messages(store, b"ours"), Messages(store, b"theirs")
    ours.set("node 1", "å\n{}")
    assert ours.get("node 1") == "å\n{}"
    store.set("node 2", store.get("node 1"))
    store.set("node 3", store.get("node 1") + b"}")
    store.set("node 4", b"\xff")
    theirs.set("node 5", "stop")
    for key in ("node 2", "node 3", "node 4", "node 5"):
        with pytest.raises(MubenchError, match=f"{key}.*refused"):
            ours.get(key)


def test_what_a_rank_gave_up_is_told_from_a_death():
    assert failure_of({1: RankFailed("out_of_memory", "rank 1: full")}) == ("out_of_memory", "rank 1: full")
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = RankFailed("failed", "why")
    assert failure_of({0: RuntimeError("connection closed"), 1: wrapped}) == ("failed", "why")
    assert failure_of({1: RuntimeError("the actor died")}) is None


def test_workers_are_no_part_of_a_trial(tiny):
    ids = [
        list(make_plan(make_suite({**tiny, "resources": resources, "models": model})).trials)
        for resources, model in (
            ({}, "cnn-small"),
            ({"workers": 4}, "cnn-small"),
            ({}, {"name": "cnn-small", "workers": 2}),
        )
    ]
    assert ids[0] == ids[1] == ids[2]


def test_a_model_says_how_many_before_the_suite_does(tiny):
    suite = make_suite(
        {**tiny, "resources": {"workers": 3}, "models": [{"name": "cnn-small", "workers": 2}, "vit-tiny"]}
    )
    assert (suite.workers_of("cnn-small"), suite.workers_of("vit-tiny")) == (2, 3)


def test_workers_do_not_share_a_device(tiny):
    with pytest.raises(SuiteError, match="whole devices"):
        make_suite({**tiny, "resources": {"workers": 2, "gpus": 0.5}})
