"""The copy to MLflow as a process of its own: MLflow costs about as much as the engine and shares no interpreter with it.

The parent says ``stop`` through the pipe, which allows a last look; where it dies the pipe ends and so does the copy, at once.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mubench_ray.errors import one_line
from mubench_ray.provenance import INSTALLED
from mubench_ray.results.mlflow_sink import MlflowSink

#: Seconds that the parent waits for the last look; an MLflow server that hangs does not hang the run.
PATIENCE = 120.0
#: What the process runs: this very package, wherever it lies; all else is found as it is here.
START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import mubench_ray; del sys.path[0]; "
    "from mubench_ray.results.mlflow_process import main; main(*sys.argv[1:])"
)


@contextmanager
def following(root: str | Path, tracking_uri: str | None = None) -> Iterator[None]:
    """While the context lasts, a process copies the rows of a results folder to MLflow as they come, and what is left at its end.

    What it could not copy is a warning of that process on stderr; `mubench report --sync-mlflow` catches up.
    """
    # -P: nothing is imported from the current folder, which may be anybody's.
    command = [sys.executable, "-P", "-c", START, str(INSTALLED), str(root), tracking_uri or ""]
    # A group of its own: Ctrl-C is the parent's to handle.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield
    finally:
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            process.communicate("stop\n", timeout=PATIENCE)
        if process.poll() is None:
            process.kill()
            process.wait()


def main(root: str, tracking_uri: str) -> None:
    """Follow until the parent says stop, or is gone."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = threading.Event()

    def listen() -> None:
        if sys.stdin.readline().strip() != "stop":
            os._exit(1)
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        quick_commits()
        MlflowSink(root, tracking_uri or None).follow(stop)
    except Exception as error:  # noqa: BLE001 - the copy decides nothing, and its traceback would be all that a good run ends with
        told = "MLflow has no copy of these rows: %s. `mubench report %s --sync-mlflow` makes it."
        logging.warning(told, one_line(error)[:300], root)


def quick_commits() -> None:
    """Let sqlite not wait for the disk after each of the six or so transactions that MLflow makes of a run.

    A killed process loses nothing by it; after a power failure mlflow.db may have to be deleted and copied anew from the rows.
    """
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def relax(connection, record) -> None:
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous=OFF")
