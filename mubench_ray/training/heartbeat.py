"""When this process last got somewhere: a step, a batch evaluated. Whoever watches over it asks here."""

from __future__ import annotations

import time

_last = [time.monotonic()]


def beat() -> None:
    """Something was done."""
    _last[0] = time.monotonic()


def silence() -> float:
    """Seconds since the last beat."""
    return time.monotonic() - _last[0]
