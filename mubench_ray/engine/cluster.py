"""Starting or joining a Ray cluster, quietly and apart from any other Ray on the machine."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from mubench_ray.errors import MubenchError

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
