"""Keeping a second process out of a folder that one writes to: a lock where the file system has them, a lease in an object store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from mubench_ray.errors import ResultsError
from mubench_ray.results.storage import Place, StorageLost

#: Seconds after which the lease of a driver that is gone ends.
LEASE = 60.0


def exclusive(place: Place) -> AbstractContextManager[None]:
    """Keep a second driver out of the results; raises ResultsError in that one."""
    return leased(place) if place.remote else locked(place.home)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """A lock on a folder, which is made if there is none; it goes with the process, however it ends. Whoever is refused has changed nothing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".lock").touch()
    except OSError as error:
        raise ResultsError(
            f"Results folder {out} cannot be written ({error.strerror or error}); choose another with --out."
        ) from error
    with held(out / ".lock", f"Another mubench is writing to {out}; wait for it or name another folder."):
        yield


@contextmanager
def held(file: Path, refusal: str) -> Iterator[None]:
    """The lock of a file, which then says which process has it; raises ResultsError with the ``refusal`` where another process does."""
    with file.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(refusal) from None
        opened.truncate(0)
        opened.write(str(os.getpid()))
        opened.flush()
        yield


@contextmanager
def leased(place: Place) -> Iterator[None]:
    """A lease in an object store, which knows no locks: renewed while the process lives, and void LEASE seconds after its death, on its own machine at once."""
    me = {"host": socket.gethostname(), "pid": os.getpid()}
    try:
        held = json.loads(place.read(".lock"))
    except (FileNotFoundError, ValueError):
        held = None
    if held and held["until"] > time.time() and not (held["host"] == me["host"] and not alive(held["pid"])):
        raise ResultsError(
            f"Another mubench, process {held['pid']} on {held['host']}, is writing to {place}; wait for it or choose another folder with "
            f"--out. If it is dead, its lease ends in {held['until'] - time.time():.0f} s."
        )
    over = threading.Event()

    def hold() -> None:
        place.write(".lock", json.dumps({**me, "until": time.time() + LEASE}))

    def renew() -> None:
        while not over.wait(LEASE / 3):
            with suppress(StorageLost):  # whoever writes rows says so
                hold()

    hold()
    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        with suppress(StorageLost):
            place.delete(".lock")


def alive(process: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        with suppress(PermissionError):  # it is somebody else's
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
