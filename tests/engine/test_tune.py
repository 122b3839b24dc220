"""How Ray Tune is driven: short trials on all slots, more nodes than one Tuner runs, what fits where, and a cluster that starts its nodes with the work."""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
import ray.autoscaler.sdk
import yaml

from mubench_ray.engine import tune
from mubench_ray.engine.cluster import fitting, room
from mubench_ray.engine.run import run_suite
from mubench_ray.results.observations import load_results
from mubench_ray.suite import Resources, make_suite
from tests.engine.processes import finish, mubench, said

BRIEF = '''
import os, time
from mubench_ray.methods import Method, method

@method("brief", title="Brief", cites="a test")
class Brief(Method):
    """Takes less time than a process takes to start, and notes which process it was."""
    def phases(self, ctx):
        with open({pids!r}, "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        time.sleep(0.25)
        return []
'''


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_trials_shorter_than_the_start_of_a_process_run_on_all_slots(tiny, tmp_path):
    """Tune by itself hands the first process the trial for which the second one is being started, and ends that one: for ever."""
    pids, plugin, file = tmp_path / "pids.txt", tmp_path / "brief_method.py", tmp_path / "suite.yaml"
    plugin.write_text(BRIEF.format(pids=str(pids)))
    suite = {**tiny, "methods": "brief", "ratios": 5, "seeds": list(range(60)), "training_seeds": 0}
    file.write_text(
        yaml.safe_dump({**suite, "training": {"epochs": 1}, "plugins": [str(plugin)], "resources": {"concurrency": 2}})
    )
    finish("run", file, "--out", tmp_path / "out")
    ran = Counter(pids.read_text().split())
    assert sum(ran.values()) == 60 and load_results(tmp_path / "out").num_rows == 60
    assert len(ran) == 2 and min(ran.values()) >= 5, ran


def test_more_nodes_than_one_tuner_runs(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "PER_TUNER", 4)
    began = []
    go_on = tune.NextJob.go_on
    monkeypatch.setattr(tune.NextJob, "go_on", lambda self: (began.append(1), go_on(self)))
    run = run_suite(make_suite({**tiny, "methods": ["original", "neggrad"], "seeds": [1, 2]}), tmp_path)
    rows = load_results(tmp_path).to_pylist()
    # 8 trials, 2 originals and 4 retrains: the last Tuner finds two nodes left
    assert run.complete and len({row["trial_id"] for row in rows}) == len(rows) == 8 and len(began) == 4
    assert {row["status"] for row in rows} <= {"ok", "truncated"}


@pytest.mark.parametrize(
    ("asked", "workers", "nodes", "fits"),
    [
        ({"cpus": 1}, 1, [{"CPU": 2}, {"CPU": 3}], 5),
        ({"cpus": 2}, 1, [{"CPU": 1}, {"CPU": 1}], 0),  # together they have two cores, no node has
        ({"cpus": 0.5}, 1, [{"CPU": 2}], 4),
        ({"cpus": 1}, 2, [{"CPU": 1}, {"CPU": 2}], 1),
        ({"cpus": 1, "gpus": 1}, 1, [{"CPU": 8}, {"CPU": 8, "GPU": 4}], 4),
        ({"cpus": 4, "gpus": 1}, 1, [{"CPU": 8, "GPU": 4}], 2),
        ({"cpus": 1, "gpus": 0.3}, 1, [{"CPU": 16, "GPU": 2}], 6),
        ({"cpus": 1, "gpus": 2}, 1, [{"CPU": 16, "GPU": 3}], 1),
    ],
)
def test_what_fits(asked, workers, nodes, fits):
    assert fitting(Resources(**asked), workers, nodes) == fits


def test_of_a_run_that_is_interrupted_while_it_waits_for_nodes_none_is_asked_for_any_more(monkeypatch):
    requested = []

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(ray.autoscaler.sdk, "request_resources", lambda bundles: requested.append(bundles))
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        room(Resources(gpus=1), 2, joined=True)
    assert requested == [[{"CPU": 1, "GPU": 1}] * 2, []]


@pytest.mark.slow
def test_a_cluster_that_starts_its_nodes_with_the_work(tiny, tmp_path, own_token):
    """A head without cores, as in cluster.yaml: the run asks for a node and waits, and says so. (Here the node is added by hand: Ray's wheel lacks the files
    of its own fake autoscaler.)"""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        file = tmp_path / "suite.yaml"
        suite = {**tiny, "methods": ["original", "neggrad"]}
        file.write_text(yaml.safe_dump({**suite, "resources": {"wait_for_nodes": 2}}))
        arguments = ("run", file, "--address", cluster.address, "--out")
        refused = finish(*arguments, tmp_path / "refused", expect=2)
        assert "a trial asks for 1 CPU and 0 GPU; the cluster's nodes have 0 CPU + 0 GPU" in refused
        file.write_text(yaml.safe_dump({**suite, "resources": {"wait_for_nodes": 300}}))
        process = mubench(*arguments, tmp_path / "out")
        while "waiting up to 300 s" not in (line := process.stdout.readline()):
            assert line, "it ended without waiting"
        cluster.add_node(num_cpus=1)
        said(process)
        assert {row["status"] for row in load_results(tmp_path / "out").to_pylist()} <= {"ok", "truncated"}
    finally:
        cluster.shutdown()
