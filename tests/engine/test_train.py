"""Trials that two workers share, through real Ray Tune and Ray Train: the rows of one worker, and what happens when a worker dies or fails alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.train import RankFailed, failure_of
from mubench_ray.errors import SuiteError
from mubench_ray.results.store import Store, load_results
from mubench_ray.suite import make_suite
from tests.conftest import CIRCUMSTANCES

PLUGIN = '''
import time
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


def mubench(*arguments, folder=None):
    """Start the real command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "mubench_ray", *map(str, arguments)],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
    )  # fmt: skip


def finish(process, expect=0):
    output, _ = process.communicate(timeout=420)
    assert process.returncode == expect, output
    return output


def rows_of(out):
    return {row["trial_id"]: row for row in load_results(out).to_pylist()}


@pytest.fixture(scope="module")
def shared(tiny, tmp_path_factory):
    """A folder with a plugin, and the same suite for one worker and for two, of which the second has been run, disturbed."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "plugin.py").write_text(PLUGIN)
    content = {**tiny, "ratios": 10, "plugins": [str(folder / "plugin.py")]}
    content["methods"] = [
        "retrain",
        {"name": "ft", "epochs": 1},
        {"name": "scrub", "epochs": 1, "msteps": 1},
        "salun",
        "slow",
    ]
    (folder / "one.yaml").write_text(yaml.safe_dump(content))
    (folder / "two.yaml").write_text(
        yaml.safe_dump({**content, "resources": {"workers": 2, "checkpoint_seconds": 0.5}})
    )
    return folder


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


def test_the_rows_of_two_workers_are_those_of_one_also_when_a_worker_is_killed(shared):
    finish(mubench("run", shared / "one.yaml", "--out", shared / "one"))
    process = mubench("run", shared / "two.yaml", "--out", shared / "two")
    until = time.monotonic() + 240
    # Kill one of the two in the middle of the slow trial, once it has saved itself.
    while (
        not list((shared / "two" / "artifacts" / "progress").glob("*.pt")) or len(Store(shared / "two").finished()) < 1
    ):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    finish(process)
    one, two = rows_of(shared / "one"), rows_of(shared / "two")
    assert one.keys() == two.keys() and len(one) == 5
    assert {row["workers"] for row in one.values()} == {1} and {row["workers"] for row in two.values()} == {2}
    for trial, row in one.items():
        for column in row.keys() - CIRCUMSTANCES:
            same = row[column]
            expected = pytest.approx(same, rel=1e-3, abs=1e-3) if isinstance(same, float) else same
            assert two[trial][column] == expected, (row["method"], column)
        assert two[trial]["flos"] == pytest.approx(row["flos"], rel=1e-9)
    assert not list((shared / "two" / "artifacts" / "progress").glob("*"))
    assert not list((shared / "two" / ".train").glob("*"))


def test_a_fault_of_one_rank_alone_is_its_row(shared, tiny):
    """Rank 0 would wait for ever; with trials of one worker in the same suite, which are none the worse."""
    content = yaml.safe_load((shared / "one.yaml").read_text())
    content["methods"] = ["ft", "second_fails"]
    content["models"] = [{"name": "cnn-small", "workers": 2}, "vit-tiny"]
    path = shared / "mixed.yaml"
    path.write_text(yaml.safe_dump(content))
    finish(mubench("run", path, "--out", shared / "mixed", "--artifacts", shared / "mixed_artifacts"))
    rows = {(row["model"], row["method"]): row for row in rows_of(shared / "mixed").values()}
    failed = rows["cnn-small", "second_fails"]
    assert failed["status"] == "out_of_memory" and "rank 1 of 2" in failed["error"] and "on purpose" in failed["error"]
    assert (
        all(row["status"] in ("ok", "truncated") for key, row in rows.items() if row is not failed) and len(rows) == 4
    )
    assert rows["cnn-small", "ft"]["workers"] == 2 and rows["vit-tiny", "ft"]["workers"] == 1


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
