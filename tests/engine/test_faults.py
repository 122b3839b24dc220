"""What dies while a suite runs, as real processes. Afterwards, or after the same command once more, the rows are those of an undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from mubench_ray.results.observations import load_results
from mubench_ray.results.store import Store
from tests.conftest import outcome_columns
from tests.engine.processes import finish, mubench, said, title_of, trial_processes, wait_until
from tests.object_store import free_port, wait_for

pytestmark = pytest.mark.slow

PLUGIN = '''
import os, time
from pathlib import Path
from mubench_ray.methods import Method, method

@method("hanging", title="Hanging", cites="a test")
class Hanging(Method):
    """Never comes back."""
    def phases(self, ctx):
        time.sleep(3600)

@method("hanging_once", title="Hanging once", cites="a test")
class HangingOnce(Method):
    """Comes back the second time."""
    def phases(self, ctx):
        mark = Path(os.environ["MUBENCH_TEST_MARKS"]) / str(ctx.seed)
        if not mark.exists():
            mark.touch()
            while True:
                pass
        return []

@method("waiting", title="Waiting", cites="a test")
class Waiting(Method):
    """Waits until it may go on; which process it runs in stands in a file."""
    def phases(self, ctx):
        marks = Path(os.environ["MUBENCH_TEST_MARKS"])
        (marks / "pid").write_text(str(os.getpid()))
        while not (marks / "go").exists():
            time.sleep(0.05)
        return []
'''

#: It can be imported by the process that imports it first, the driver.
ONCE = '''
import os
from pathlib import Path
from mubench_ray.methods import Method, method

first = Path(__file__).with_name("first")
first.exists() or first.write_text(str(os.getpid()))
if first.read_text() != str(os.getpid()):
    raise ImportError("libcuriosity.so: cannot open shared object file")

@method("curious", title="Curious", cites="a test")
class Curious(Method):
    """Nothing."""
    def phases(self, ctx):
        return []
'''


@pytest.fixture(scope="module")
def content(tiny):
    """12 trials that take seconds."""
    methods = ["original", "retrain", "neggrad", {"name": "ft", "epochs": 1}]
    return {**tiny, "methods": methods, "ratios": 10, "seeds": [1, 2, 3]}


@pytest.fixture(scope="module")
def expected(content, tmp_path_factory):
    """The rows of an undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish("run", written(folder, content), "--out", folder / "out")
    rows = outcome_columns(load_results(folder / "out"))
    assert len(rows) == 12 and {row["status"] for row in rows} <= {"ok", "truncated"}
    return rows


def written(folder, content, **changes):
    path = Path(folder) / "suite.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def rows_written(out, count):
    """Whether at least so many trials have their row."""
    return lambda: (Path(out) / "trials").is_dir() and len(Store(out).finished()) >= count


def test_a_trials_process_killed(content, expected, tmp_path):
    """Its trial is run again by the same driver."""
    process = mubench("run", written(tmp_path, content), "--out", tmp_path / "out")
    wait_until(rows_written(tmp_path / "out", 2))
    wait_until(lambda: bool(trial_processes(process)))
    for each in trial_processes(process):
        each.kill()
    said(process)
    assert outcome_columns(load_results(tmp_path / "out")) == expected


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_process_killed_while_it_waits(content, tmp_path):
    """Nothing of a trial was lost with it: the trial goes to another process, and no row says that anything died. Tune by itself counts this death twice,
    and tries no more."""
    plugin, marks, out = tmp_path / "waiting_method.py", tmp_path / "marks", tmp_path / "out"
    plugin.write_text(PLUGIN)
    marks.mkdir()
    changes = {"methods": ["original", "waiting"], "ratios": [5, 10], "seeds": [1], "sequence": True}
    suite = written(tmp_path, content, **changes, plugins=[str(plugin)], resources={"concurrency": 2})
    process = mubench("run", suite, "--out", out, env={"MUBENCH_TEST_MARKS": str(marks)})
    # The second step waits for the first: once the other rows are there, one of two processes has nothing to do.
    wait_until(lambda: (marks / "pid").is_file() and rows_written(out, 2)())
    busy = int((marks / "pid").read_text())
    wait_until(
        lambda: [title_of(each) for each in trial_processes(process) if each.pid != busy] == ["ray::JobTrainable"]
    )
    [idle] = [each for each in trial_processes(process) if each.pid != busy]
    idle.kill()
    idle.wait()
    (marks / "go").touch()
    said(process)
    rows = load_results(out).to_pylist()
    assert len(rows) == 4 and {row["status"] for row in rows} == {"ok"}, [row["error"] for row in rows]


def test_a_plugin_that_only_the_driver_can_import(content, tmp_path):
    """The reason in the rows is the exception, the file and the machine; nobody tries three times."""
    plugin, out = tmp_path / "curious_method.py", tmp_path / "out"
    plugin.write_text(ONCE)
    changes = {"methods": ["original", "curious"], "seeds": [1], "plugins": [str(plugin)]}
    output = finish("run", written(tmp_path, content, **changes), "--out", out, expect=2)
    rows = load_results(out).to_pylist()
    assert len(rows) == 2 and {row["status"] for row in rows} == {"failed"}
    for row in rows:
        assert "ImportError: libcuriosity.so: cannot open shared object file" in row["error"]
        assert str(plugin) in row["error"] and "worker process on node" in row["error"] and "died" not in row["error"]
    assert "libcuriosity.so" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop(content, expected, tmp_path, number):
    """What runs ends, nothing new starts, and the last line is the command that goes on."""
    suite, out = written(tmp_path, content, resources={"concurrency": 1}), tmp_path / "out"
    process = mubench("run", suite, "--out", out)
    wait_until(rows_written(out, 1))
    os.kill(process.pid, number)
    output = said(process, expect=130)
    assert f"To go on: mubench run {suite} --out {out}" in output.replace("\n", "") and "Traceback" not in output
    assert 1 <= len(Store(out).finished()) < 12
    finish("run", suite, "--out", out)
    assert outcome_columns(load_results(out)) == expected


def test_a_node_lost(content, expected, tmp_path, own_token):
    """Two nodes of one core; one goes with all its processes, and the other runs what it had."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        out = tmp_path / "out"
        process = mubench("run", written(tmp_path, content), "--out", out, "--address", cluster.address)
        wait_until(rows_written(out, 2))
        cluster.remove_node(second, allow_graceful=False)
        said(process)
        assert outcome_columns(load_results(out)) == expected
    finally:
        cluster.shutdown()


def test_the_mlflow_server_killed(content, expected, tmp_path):
    """The run goes on and says so; afterwards one command copies what is missing."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = serve(tmp_path, port)
    try:
        out = tmp_path / "out"
        process = mubench("run", written(tmp_path, content, mlflow_uri=address), "--out", out)
        wait_until(rows_written(out, 1))
    finally:
        kill_family(server)
    output = said(process)
    assert "--sync-mlflow` catches up" in output.replace("\n", " ") and "Traceback" not in output
    assert outcome_columns(load_results(out)) == expected
    server = serve(tmp_path, port)
    try:
        finish("report", out, "--sync-mlflow")
        import mlflow

        client = mlflow.MlflowClient(address)
        runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    finally:
        kill_family(server)
    assert sorted(run.data.tags["trial_id"] for run in runs) == [row["trial_id"] for row in expected]


def serve(folder, port):
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    log = (folder / "server.log").open("a")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True)
    wait_for(port, 180)
    return server


def kill_family(process):
    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        each.kill()
    process.wait()


@contextmanager
def small_disk(folder, size):
    """A disk of its own."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "mubench-test", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"this user may not mount a small disk: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="needs mount")
def test_a_full_disk(content, expected, tmp_path):
    """One line says which file could not be written, and no row says that a trial failed."""
    disk = tmp_path / "disk"
    suite, out = written(tmp_path, content), disk / "out"
    with small_disk(disk, "1m"):
        output = finish("run", suite, "--out", out, expect=1)
        assert "No space left on device" in output and "the same command goes on" in output.replace("\n", " ")
        assert "Traceback" not in output
        assert {row["status"] for row in load_results(out).to_pylist()} <= {"ok", "truncated"}
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        finish("run", suite, "--out", out)
        assert outcome_columns(load_results(out)) == expected


def test_a_trial_that_hangs(content, tmp_path):
    """It is ended, tried once more, and then given up with its stacks in the log; nobody else waits for it."""
    plugin = tmp_path / "hanging_methods.py"
    plugin.write_text(PLUGIN)
    marks = tmp_path / "marks"
    marks.mkdir()
    changes = {
        "methods": ["original", "hanging", "hanging_once"],
        "seeds": [1],
        "plugins": [str(plugin)],
        "resources": {"watchdog": 15},
    }
    out = tmp_path / "out"
    arguments = ("run", written(tmp_path, content, **changes), "--out", out)
    output = finish(*arguments, expect=1, env={"MUBENCH_TEST_MARKS": str(marks)})
    rows = {row["method"]: row for row in load_results(out).to_pylist()}
    assert rows["original"]["status"] == rows["hanging_once"]["status"] == "ok" and len(list(marks.iterdir())) == 1
    assert rows["hanging"]["status"] == "failed" and "hung: no progress for 15 s, 2 times" in rows["hanging"]["error"]
    assert "hung: no progress" in output and "phases" in finish("logs", out, rows["hanging"]["trial_id"])
    assert not (out / "hung").exists()
