"""Jobs on a real Ray head with token authentication, started here with ports and folders of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from mubench_ray.engine.submit import job_name, working_folder
from mubench_ray.errors import MubenchError
from mubench_ray.results.observations import load_results
from mubench_ray.results.store import Store
from mubench_ray.suite import load_suite
from tests.engine.processes import finish, mubench, said, wait_until
from tests.object_store import free_port, wait_for

TOKEN = "a-secret-of-this-test-0123456789abcdef"
PLUGIN = '''
import time
from mubench_ray.methods import Method, method

@method("waiting", title="Waiting", cites="a test")
class Waiting(Method):
    """Takes a while and changes nothing."""
    def phases(self, ctx):
        time.sleep(1.0)
        return []
'''
RAISING = '''
from mubench_ray.methods import Method, method

@method("raising", title="Raising", cites="a test")
class Raising(Method):
    """Raises."""
    def phases(self, ctx):
        raise RuntimeError("on purpose")
'''


@pytest.fixture(scope="module")
def head():
    """Address of the dashboard of a head that asks for a token."""
    folder = tempfile.mkdtemp(prefix="mub-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))
    port, dashboard = free_port(), free_port()
    environment = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}", "--num-cpus=2",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}", "--node-ip-address=127.0.0.1",
        f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}",
    ]  # fmt: skip
    log = (Path(folder) / "start.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for(dashboard, 120)
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in family:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def token():
    return {"RAY_AUTH_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def suite_file(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    plugin = folder / "waiting_method.py"
    plugin.write_text(PLUGIN)
    path = folder / "sent.yaml"
    content = {**tiny, "methods": ["original", "waiting"], "seeds": [1, 2, 3], "ratios": 5, "plugins": [str(plugin)]}
    path.write_text(yaml.safe_dump({**content, "training": {"epochs": 1}}))
    return path


@pytest.mark.slow
def test_a_job_runs_the_suite_and_a_second_submit_joins_it(head, suite_file, tmp_path, token):
    out = tmp_path / "out"
    arguments = ("submit", suite_file, "--address", head, "--out", out, "--python", sys.executable)
    first = mubench(*arguments, env=token)
    wait_until(lambda: ((out / "trials").is_dir() and any((out / "trials").iterdir())) or first.poll() is not None, 240)
    second = mubench(*arguments, env=token)
    time.sleep(1)
    said_first, said_second = said(first), said(second)
    assert "submitted" in said_first and "Leaderboard" in said_first and "succeeded" in said_first
    assert "runs already" in said_second and "Leaderboard" in said_second
    rows = load_results(out).to_pylist()
    assert len(rows) == 6 and {row["status"] for row in rows} == {"ok"}
    again = finish(*arguments, env=token)
    assert "6 of 6 trials had their row already" in again and "-2 submitted" in again


@pytest.mark.slow
@pytest.mark.parametrize(("methods", "code"), [("raising", 2), (["original", "raising"], 1)])
def test_the_exit_code_is_that_of_the_run(head, tiny, tmp_path, token, methods, code):
    """Of a suite without one result, and of one in which some trials failed."""
    plugin, suite = tmp_path / "raising_method.py", tmp_path / "suite.yaml"
    plugin.write_text(RAISING)
    content = {**tiny, "methods": methods, "ratios": 5, "plugins": [str(plugin)], "training": {"epochs": 1}}
    suite.write_text(yaml.safe_dump(content))
    arguments = ("submit", suite, "--address", head, "--out", tmp_path / "out", "--python", sys.executable)
    output = finish(*arguments, env=token, expect=code)
    assert "ended as FAILED" in output and "RuntimeError: on purpose" in output


@pytest.mark.slow
def test_leaving_does_not_end_the_job(head, suite_file, tmp_path, token):
    out = tmp_path / "out"
    arguments = ("submit", suite_file, "--address", head, "--out", out, "--python", sys.executable)
    process = mubench(*arguments, env=token)
    wait_until((out / "manifest.json").is_file, 240)
    os.kill(process.pid, signal.SIGINT)
    assert "The same command follows it again" in said(process, expect=130)
    wait_until(lambda: len(Store(out).finished()) == 6, 240)


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"RAY_AUTH_TOKEN": "another-token-0123456789abcdef012345"}, {"RAY_AUTH_MODE": "disabled"}]
)
def test_without_the_token_the_head_refuses(head, suite_file, tmp_path, environment):
    arguments = ("submit", suite_file, "--address", head, "--out", tmp_path / "out")
    output = finish(*arguments, env={"RAY_AUTH_TOKEN": "", **environment}, expect=2)
    assert "RAY_AUTH_MODE" in output and "Traceback" not in output and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_nobody_there_and_a_place_that_nodes_cannot_reach(suite_file, tmp_path):
    nowhere = ("submit", suite_file, "--address", "http://127.0.0.1:1")
    assert "No Ray jobs at http://127.0.0.1:1" in finish(*nowhere, "--out", tmp_path / "out", expect=2)
    assert "every node mounts" in finish(*nowhere, "--out", "results/here", expect=2)


def test_what_travels(suite_file):
    suite = load_suite(suite_file)
    with working_folder(suite, yaml.safe_load(suite_file.read_text())) as folder:
        names = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
        assert {"suite.yaml", "plugins/waiting_method.py", "mubench_ray/cli.py"} <= names
        assert not any("__pycache__" in name for name in names)
        assert sum((Path(folder) / name).stat().st_size for name in names) < 5e6
        assert yaml.safe_load((Path(folder) / "suite.yaml").read_text())["plugins"] == ["plugins/waiting_method.py"]
    assert not Path(folder).exists()
    twice = suite.model_copy(update={"plugins": [suite.plugins[0], "elsewhere/waiting_method.py"]})
    with pytest.raises(MubenchError, match="same file name"), working_folder(twice, {}):
        pass


def test_the_name_says_which_suite_and_where(suite_file):
    suite = load_suite(suite_file)
    one = job_name(suite, "s3://b/x?scheme=http")
    assert one == job_name(suite, "s3://key:secret@b/x") != job_name(suite, "s3://b/y")
    assert one != job_name(suite.model_copy(update={"seeds": [9]}), "s3://b/x") and one.startswith("mubench-tiny-")


@pytest.mark.slow
def test_rays_own_command_takes_the_entry_point(head, suite_file, tmp_path, token, repository):
    """As docs/cluster.md has it, from a checkout."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head, "--working-dir", str(repository),
        "--runtime-env-json", '{"excludes": ["/results", "/data"]}', "--",
        sys.executable, "jobs/run_suite.py", str(suite_file), "--out", str(out),
    ]  # fmt: skip
    environment = {**os.environ, **token, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(load_results(out)) == 6
