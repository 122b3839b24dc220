"""Who may speak to a cluster: one that is started here asks for its token on every port; one that is joined is spoken to as its own settings say."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPException

import grpc
import psutil
import pytest
import yaml

from mubench_ray.engine.cluster import AUTHENTICATION, cluster, own_address, to_join
from mubench_ray.errors import MubenchError
from tests.engine.processes import mubench, said, wait_until

PLUGIN = '''
import os, time
from pathlib import Path
from mubench_ray.methods import Method, method

@method("holding", title="Holding", cites="a test")
class Holding(Method):
    """Holds the run until it may go on."""
    def phases(self, ctx):
        marks = Path(os.environ["MUBENCH_TEST_MARKS"])
        (marks / "here").touch()
        while not (marks / "go").exists():
            time.sleep(0.05)
        return []
'''
WRONG = "not-the-token-0123456789abcdef0123456789"
#: What each kind of Ray's processes would do for anybody who may ask.
CALLS = (
    "CoreWorkerService/PushTask", "CoreWorkerService/GetCoreWorkerStats", "NodeManagerService/GetNodeStats", "ObjectManagerService/Pull",
    "InternalKVGcsService/InternalKVKeys", "ReporterService/GetTraceback",
)  # fmt: skip
JOIN = """
import sys, ray
from pathlib import Path
ray.init(address=sys.argv[1], log_to_driver=False)
ray.get(ray.remote(num_cpus=0)(lambda: Path(sys.argv[2]).touch()).remote())
"""


@pytest.fixture(scope="module")
def running(tiny, tmp_path_factory):
    """The driver of a run that is under way, of a user whose own clusters are open."""
    folder = tmp_path_factory.mktemp("running")
    (folder / "holding_method.py").write_text(PLUGIN)
    content = {**tiny, "methods": ["original", "holding"], "ratios": 5, "training": {"epochs": 1}}
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump({**content, "plugins": [str(folder / "holding_method.py")]}))
    environment = {"MUBENCH_TEST_MARKS": str(folder), "RAY_AUTH_MODE": "disabled"}
    process = mubench("run", suite, "--out", folder / "out", env=environment)
    wait_until(lambda: (folder / "here").is_file() or process.poll() is not None, 240)
    yield process
    (folder / "go").touch()
    said(process)


@pytest.mark.slow
def test_a_run_imports_nothing_from_the_folder_in_which_it_is_started(tiny, tmp_path, planted):
    """Neither the driver nor what it starts: Ray's processes, its workers, those that share a trial, the copy to MLflow."""
    content = {**tiny, "methods": ["original"], "ratios": 5, "training": {"epochs": 1}}
    content["models"] = {"name": "cnn-small", "workers": 2}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    command = [
        sys.executable,
        "-P",
        "-m",
        "mubench_ray",
        "run",
        str(tmp_path / "suite.yaml"),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=planted, env=environment, capture_output=True, text=True, timeout=300)
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "mlflow.db").is_file()


def test_auto_in_a_job_is_the_cluster_of_the_job(monkeypatch):
    """Also where Ray says otherwise: of two heads on a machine it names the one that was started last."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        own = f"127.0.0.1:{closed.getsockname()[1]}"
    raylet = subprocess.Popen([sys.executable, "-c", "input()", f"--gcs-address={own}"], stdin=subprocess.PIPE)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_RAYLET_PID", str(raylet.pid))
    try:
        assert own_address() == own
        with pytest.raises(MubenchError, match=f"No Ray cluster answers at {own}"), cluster("auto"):
            pass
    finally:
        raylet.communicate(b"\n")
    assert own_address() is None


def listening(driver: subprocess.Popen) -> list[tuple[str, int, str]]:
    """(address, port, process) of every TCP port at which a run's processes listen."""
    found = []
    for process in [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]:
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                host = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(connection.laddr.ip, connection.laddr.ip)
                found.append((host, connection.laddr.port, process.name()))
    return found


@pytest.mark.slow
def test_no_port_of_a_run_takes_a_job(running, tmp_path):
    """Nor does anything but a process's health and its counters answer over HTTP."""
    marker, taken = tmp_path / "marker", []
    ports = listening(running)
    assert len(ports) > 5, "the processes of a run listen"
    for header, (host, port, name) in itertools.product(({}, {"Authorization": f"Bearer {WRONG}"}), ports):
        for path in ("/api/job_agent/jobs/", "/api/jobs/", "/get_or_create_runtime_env"):
            job = json.dumps({"entrypoint": f"touch {marker}"}).encode()
            request = urllib.request.Request(f"http://{host}:{port}{path}", data=job, headers=header)
            request.add_header("Content-Type", "application/json")
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    taken.append((name, port, path, answer.read()))
            except urllib.error.HTTPError as error:
                assert error.code in (401, 403, 405), (name, port, path, error.code)
            except (OSError, HTTPException):
                break  # it does not speak HTTP
    with pytest.raises(AssertionError, match="it did not come"):
        wait_until(marker.exists, 8)
    assert not taken


@pytest.mark.slow
@pytest.mark.parametrize("metadata", [(), (("authorization", f"Bearer {WRONG}"),)], ids=["no token", "a wrong token"])
def test_no_process_of_a_run_does_what_a_stranger_asks(running, metadata):
    """Whatever it serves to its own kind."""
    refused = []
    for host, port, name in listening(running):
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            for call in CALLS:
                with pytest.raises(grpc.RpcError) as error:
                    channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=5, metadata=metadata)
                if error.value.code() == grpc.StatusCode.UNAUTHENTICATED:
                    refused.append(call)
                else:
                    others = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE
                    assert error.value.code() in others, (name, call)
    assert set(refused) == set(CALLS)


@pytest.mark.slow
def test_nobody_joins_a_run(running, tmp_path):
    """Ray itself tries for a while."""
    (port,) = [port for host, port, name in listening(running) if name.startswith("gcs_server")]
    address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
    environment = {name: value for name, value in os.environ.items() if name not in AUTHENTICATION}
    tries = []
    for number, told in enumerate([{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": WRONG}]):
        command = [sys.executable, "-c", JOIN, address, str(tmp_path / f"marker {number}")]
        tries.append(
            subprocess.Popen(
                command, env={**environment, **told}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    for process in tries:
        output, _ = process.communicate(timeout=200)
        assert process.returncode != 0 and "nauthenticat" in output, output
    assert not any(tmp_path.iterdir())


#: Two clusters one after the other, in a process that has imported Ray before and whose user has a token for others; then one of those.
STARTS = """
import os, stat, sys
import ray
from pathlib import Path
from mubench_ray.doctor import ray_cluster
from mubench_ray.engine.cluster import cluster
from ray._raylet import AuthenticationTokenLoader

def taken():
    return AuthenticationTokenLoader.instance().get_raw_token()

before = dict(os.environ)
tokens = [taken()]
for address in (None, "local"):
    with cluster(address, cpus=1) as has:
        file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert has["CPU"] == 1 and taken() == file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        tokens.append(taken())
        seen = ray.get(ray.remote(lambda: {name: os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")}).remote())
        assert seen == {"RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(file)}, seen
    assert not file.parent.exists() and taken() == tokens[0]
assert len(tokens[1]) >= 32 and len(set(tokens)) == 3
changed = {name for name in before.keys() | os.environ.keys() if name.startswith("RAY_AUTH") and before.get(name) != os.environ.get(name)}
assert not changed and not (Path.home() / ".ray" / "auth_token").exists(), changed
with cluster(sys.argv[1]) as has:
    assert has["CPU"] == 3 and taken() == tokens[0]
((good, told),) = ray_cluster(sys.argv[1])
assert good and "3 CPU" in told and "asks for a token" in told, told
print("as it should be")
"""


@pytest.mark.slow
def test_a_token_of_its_own_for_every_cluster(tmp_path, own_token, monkeypatch):
    """Also where Ray was imported before and the environment names another; afterwards the environment is the user's again, who can join other clusters."""
    monkeypatch.setenv("HOME", str(tmp_path))
    from ray.cluster_utils import Cluster

    theirs = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    try:
        command = [sys.executable, "-c", STARTS, theirs.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    finally:
        theirs.shutdown()
    assert done.stdout.strip() == "as it should be", done.stdout + done.stderr


def test_how_a_cluster_is_joined(tmp_path, monkeypatch):
    """As the environment says; where it does not, a token at hand is used, wherever Ray would look for it."""
    for name in AUTHENTICATION:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert to_join() == {"RAY_AUTH_MODE": "disabled"}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t" * 32)
    assert to_join() == {"RAY_AUTH_MODE": "token"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert to_join() == {"RAY_AUTH_MODE": "disabled"}
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "u" * 32)
    assert to_join() == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "u" * 32}


def test_a_cluster_that_does_not_answer_leaves_the_environment_alone(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = {name: value for name, value in os.environ.items() if name in AUTHENTICATION}
    with (
        pytest.raises(MubenchError, match=r"No Ray cluster answers at 127\.0\.0\.1:1: .*RAY_AUTH_MODE"),
        cluster("127.0.0.1:1"),
    ):
        pass
    assert {name: value for name, value in os.environ.items() if name in AUTHENTICATION} == before


@pytest.mark.parametrize("where", ["nowhere/at/all", "file"])
def test_a_folder_in_which_no_cluster_can_be_started(tmp_path, monkeypatch, where):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / where))
    with (
        pytest.raises(MubenchError, match=rf"could not be started on this machine: .*{where}.*RAY_TMPDIR") as caught,
        cluster(None),
    ):
        pass
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["file"]
