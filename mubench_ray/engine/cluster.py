"""Starting or joining a Ray cluster, quietly and apart from any other Ray on the machine."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mubench_ray.errors import MubenchError
from mubench_ray.suite import Resources

#: Set before Ray is imported, unless the user already has.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
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
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # run_nodes drains instead
    "OMP_NUM_THREADS": "1",
}


def reach(address: str) -> None:
    """Raise OSError at once where nothing listens at ``host:port`` (also ``ray://host:port``): Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def prepare_environment() -> None:
    """Say everything that Ray reads from the environment before it is imported. A token at hand means token authentication, else none: both sides must say
    the same, and Ray's own default differs between releases."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def cluster(address: str | None, cpus: int | None = None) -> Iterator[dict[str, float]]:
    """Join the cluster at ``address``, or start one on this machine and end it afterwards; yields its resources.

    A cluster started here keeps its sockets and logs in a folder of its own under the temporary folder, which is removed at the end.
    """
    prepare_environment()
    import ray

    folder = None
    try:
        if address:
            reach(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            # Unix sockets allow 107 characters of path, so the folder is short whatever TMPDIR says.
            folder = tempfile.mkdtemp(prefix="mub-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=folder,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        where = f"No Ray cluster answers at {address}" if address else "Ray could not be started on this machine"
        raise MubenchError(f"{where}: {' '.join(str(error).split())[:300]}. `mubench doctor` says more.") from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def nodes() -> list[dict[str, float]]:
    """The resources of every node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


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
        bundle = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
        request_resources(bundles=[bundle] * workers)
        until = time.monotonic() + resources.wait_for_nodes
        while not fits and time.monotonic() < until:
            time.sleep(1)
            fits = fitting(resources, workers, nodes())
        # From here on what waits in the queue says what is needed.
        request_resources(bundles=[])
    if not fits:
        sizes = ", ".join(f"{node.get('CPU', 0):g} CPU + {node.get('GPU', 0):g} GPU" for node in nodes()) or "none"
        raise MubenchError(f"resources: a trial asks for {takes}; the cluster's nodes have {sizes}.")
    return fits
