"""A trial that hangs is ended: its process is, after it has left word of where it stood; a new one tries once more.

What hangs without letting Python run (a call that never returns and keeps the interpreter's lock) is ended a little later by a timer in C, and then
counts as a process that died.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mubench_ray.training.heartbeat import beat, silence

#: How often in all a job may hang before it is given up.
ATTEMPTS = 2


@contextmanager
def watching(seconds: float | None, hung: Callable[[str], None]) -> Iterator[None]:
    """While the context lasts, end this process when nothing got done for ``seconds``; ``hung`` is told before, with the stacks of all threads."""
    if seconds is None:
        yield
        return
    over = threading.Event()
    beat()

    def watch() -> None:
        while not over.wait(min(5.0, seconds / 4)):
            # Ends the process without the interpreter's help, unless this thread comes round again.
            faulthandler.dump_traceback_later(2 * seconds + 60, exit=True)
            if silence() > seconds and not over.is_set():
                try:
                    hung(stacks())
                finally:
                    os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        faulthandler.cancel_dump_traceback_later()


def stacks() -> str:
    """Where every thread of this process stands."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
