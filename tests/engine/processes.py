"""The command line and what it starts, as real processes that a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil


def mubench(*arguments, **options) -> subprocess.Popen:
    """Start the real command line in a process of its own, in a group of its own.

    It hears SIGINT also where whoever started the tests ignores it, as a shell does with what it runs in the background.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "mubench_ray", *map(str, arguments)],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
    )  # fmt: skip


def said(process: subprocess.Popen, expect: int = 0, timeout: float = 300) -> str:
    """What a process wrote until its end."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == expect, output
    return output


def finish(*arguments, expect: int = 0, **options) -> str:
    """Run the command line to its end."""
    return said(mubench(*arguments, **options), expect)


def trial_processes(driver: subprocess.Popen) -> list[psutil.Process]:
    """The processes below a driver that run its trials, or wait for one."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            title = title_of(process)
        except psutil.Error:
            continue
        if title.startswith("ray::") and "Trainable" in title:
            found.append(process)
    return found


def title_of(process: psutil.Process) -> str:
    """What Ray calls a process: ``ray::ResourceTrainable.train`` while it runs a trial, ``ray::JobTrainable`` while it waits for one."""
    return " ".join(process.cmdline()).strip()


def wait_until(what: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something that must come."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
