"""Starting or joining a Ray cluster, quietly and apart from any other Ray on the machine."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from mubench_ray.errors import MubenchError
from mubench_ray.provenance import INSTALLED
from mubench_ray.suite import Resources

#: Set before Ray is imported, unless the user already has.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    # A machine whose cores are all taken answers late; that does not make it a lost one. (Read where a cluster is started, so only of the one on this machine.)
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "20",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # what a suite names by a relative path lies where the driver was started
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # run_jobs drains instead
    "OMP_NUM_THREADS": "1",
}


def reach(address: str) -> None:
    """Raise OSError at once where nothing listens at ``host:port`` (also ``ray://host:port``): Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def own_address() -> str | None:
    """The address of the cluster of which this process is a job, as Ray's process on this machine was told it; None for any other process.

    What Ray itself means by ``auto`` in a job is the cluster that was started last on the machine, or under the head's temporary folder.
    """
    try:
        command = Path(f"/proc/{os.environ['RAY_RAYLET_PID']}/cmdline").read_text(errors="replace").split("\0")
    except (KeyError, OSError):
        return None
    sign = "--gcs-address="
    return next((word.removeprefix(sign) for word in command if word.startswith(sign)), None)


#: What says by which token Ray's processes know each other. Ray reads it where it is imported, and hands it on to the processes that it starts.
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")
#: Where Ray looks for a token last.
TOKEN_IN_HOME = Path("~/.ray/auth_token")


def prepare_environment() -> None:
    """Say everything else that Ray reads from the environment before it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def to_join() -> dict[str, str]:
    """How a cluster of somebody else's is spoken to: as RAY_AUTH_MODE says; without it a token at hand means token authentication, else there is none.
    Both sides must say the same, and Ray's own default differs between releases."""
    said = {name: os.environ[name] for name in AUTHENTICATION if os.environ.get(name)}
    if "RAY_AUTH_TOKEN_PATH" in said:
        said["RAY_AUTH_TOKEN_PATH"] = os.path.abspath(said["RAY_AUTH_TOKEN_PATH"])
    at_hand = "RAY_AUTH_TOKEN" in said or "RAY_AUTH_TOKEN_PATH" in said or TOKEN_IN_HOME.expanduser().is_file()
    return {"RAY_AUTH_MODE": "token" if at_hand else "disabled", **said}


@contextmanager
def authenticated(environment: Mapping[str, str]) -> Iterator[None]:
    """Within it, Ray authenticates as ``environment`` says and as nothing else does, also where it was imported before; afterwards as before."""
    before = {name: os.environ[name] for name in AUTHENTICATION if name in os.environ}
    authenticate(environment)
    try:
        yield
    finally:
        authenticate(before)


def authenticate(environment: Mapping[str, str]) -> None:
    """Put the variables of AUTHENTICATION into the environment, and no others of them; a Ray that has read the old ones reads these."""
    for name in AUTHENTICATION:
        os.environ.pop(name, None)
    os.environ.update(environment)
    if (raylet := sys.modules.get("ray._raylet")) is not None:
        # The mode first: whatever of the last cluster still ends in this process would ask for a token that is gone.
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def cluster(address: str | None, cpus: int | None = None) -> Iterator[dict[str, float]]:
    """Join the cluster at ``address``, or start one on this machine (``None``, Ray's own word ``local``) and end it afterwards; yields its resources.

    A cluster started here asks for a token that only this user can read, whatever the environment says: its ports are open to whoever reaches this machine, and
    without one they run any command. Its token, sockets and logs lie in a folder of its own under the temporary folder, which is removed at the end.
    """
    prepare_environment()
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        raise MubenchError("This process is connected to a Ray cluster already: call ray.shutdown() first.")
    with _joined(address) if address not in (None, "", "local") else _started(cpus):
        import ray

        try:
            yield dict(ray.cluster_resources())
        finally:
            ray.shutdown()


def _init(**options: Any) -> None:
    """``ray.init``. Ray puts the driver's current folder first on the import path of its workers, and that may be anybody's (a results folder from elsewhere):
    meanwhile it is the one in which this package lies, which workers need where it is not installed. What Ray starts imports nothing from the folder that it is
    started in either."""
    import ray

    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        with chdir(INSTALLED):
            ray.init(**options)
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _joined(address: str) -> Iterator[None]:
    if address == "auto":
        address = own_address() or address
    with authenticated(to_join()):
        from ray.exceptions import RayError

        try:
            reach(address)
            _init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
            mode = f"RAY_AUTH_MODE, here {os.environ['RAY_AUTH_MODE']}, and RAY_AUTH_TOKEN must be as on its head."
            raise _refused(f"No Ray cluster answers at {address}", error, mode) from error
        yield


@contextmanager
def _started(cpus: int | None) -> Iterator[None]:
    folder = _own_folder()
    token = folder / "token"
    try:
        with authenticated({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}):
            from ray.exceptions import RayError

            _require_token(token.read_text())
            try:
                _init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(folder / "r"),
                )
            except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
                raise _refused("Ray could not be started on this machine", error) from error
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _own_folder() -> Path:
    """A new folder that only this user may enter, with a random ``token`` in it; raises MubenchError."""
    # Ray lets everybody into the folder that it is given, so that one lies inside. Unix sockets allow 107 characters of path: the names are short whatever
    # TMPDIR says.
    parent = os.path.abspath(os.environ.get("RAY_TMPDIR", "/tmp"))
    try:
        folder = Path(tempfile.mkdtemp(prefix="mub-", dir=parent))
        try:
            token = folder / "token"
            token.touch(mode=0o600, exist_ok=False)
            token.write_text(secrets.token_hex(32))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        hint = f"Its files go into {parent}; RAY_TMPDIR names another folder, with a short path."
        raise _refused("Ray could not be started on this machine", error, hint) from error
    return folder


def _require_token(token: str) -> None:
    """Raise MubenchError unless this process's Ray takes part in token authentication with this very token."""
    import ray
    from ray import _raylet

    raylet: Any = _raylet  # Cython, without stubs

    asks = raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN
    if not asks or not secrets.compare_digest(raylet.AuthenticationTokenLoader.instance().get_raw_token(), token):
        raise MubenchError(
            f"Ray {ray.__version__} does not take the token of a cluster that is to be started here, and an open one lets whoever reaches this machine "
            "run commands: start the suite in a process of its own, in which nothing else has imported ray."
        )


def _refused(what: str, error: Exception, *more: str) -> MubenchError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return MubenchError(" ".join([f"{what}: {reason}.", *more, "`mubench doctor` says more."]))


def nodes() -> list[dict[str, float]]:
    """The resources of every node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def taken(resources: Resources) -> dict[str, float]:
    """What one worker of a trial asks Ray for."""
    return {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})


def fitting(resources: Resources, workers: int, has: list[dict[str, float]]) -> int:
    """How many trials that ``workers`` processes share fit into these nodes at a time; a process has all it takes on one node."""
    slots = 0
    for node in has:
        fits = node.get("CPU", 0) / resources.cpus
        if resources.gpus:
            gpus = node.get("GPU", 0)
            fits = min(fits, gpus / resources.gpus if resources.gpus >= 1 else math.floor(1 / resources.gpus) * gpus)
        slots += int(fits + 1e-9)
    return slots // workers


def room(resources: Resources, workers: int, joined: bool) -> int:
    """How many trials fit into the cluster. One that was ``joined`` may start its nodes with the work: where none has room, its autoscaler is asked, and given
    ``resources.wait_for_nodes`` seconds. Raises MubenchError where not even one trial fits in the end."""
    fits = fitting(resources, workers, nodes())
    takes = f"{resources.cpus:g} CPU and {resources.gpus:g} GPU" + (f" for each of {workers} workers" * (workers > 1))
    if not fits and joined and resources.wait_for_nodes:
        from ray.autoscaler.sdk import request_resources

        wait = f"waiting up to {resources.wait_for_nodes:g} s for its autoscaler (resources.wait_for_nodes)"
        print(f"No node of the cluster has room for a trial ({takes}): {wait}.", flush=True)
        bundle = taken(resources)
        request_resources(bundles=[bundle] * workers)
        until = time.monotonic() + resources.wait_for_nodes
        try:
            while not fits and time.monotonic() < until:
                time.sleep(1)
                fits = fitting(resources, workers, nodes())
        finally:
            # What waits in the queue says from here on what is needed; of a run that was interrupted the cluster would keep the nodes for ever.
            request_resources(bundles=[])
    if not fits:
        sizes = ", ".join(f"{node.get('CPU', 0):g} CPU + {node.get('GPU', 0):g} GPU" for node in nodes()) or "none"
        raise MubenchError(f"resources: a trial asks for {takes}; the cluster's nodes have {sizes}.")
    return fits
