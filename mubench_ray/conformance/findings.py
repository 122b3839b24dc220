"""What a conformance suite finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mubench_ray.errors import MubenchError, ends_process


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str = ""


def guarded(checks: Callable[[], Iterator[Finding]], name: str = "runs") -> Iterator[Finding]:
    """The findings of a generator of checks; what it raises is a finding too, also ``sys.exit`` and a panic in Rust, which are no exceptions."""
    try:
        yield from checks()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | GeneratorExit) or ends_process(error):
            raise
        kind = "" if isinstance(error, MubenchError) else f"{type(error).__name__}: "
        yield Finding(name, False, f"{kind}{error}")


def unsaid(said: Mapping[str, object]) -> list[str]:
    """What of it has no text."""
    return [what for what, text in said.items() if not str(text or "").strip()]


def misnumbered(version: object) -> list[str]:
    """What is wrong with a version."""
    right = isinstance(version, int) and not isinstance(version, bool) and version >= 1
    return [] if right else [f"version is {version!r}, not a number from 1 on"]


def all_of(name: str, faults: list[str], most: int = 3) -> Finding:
    """One finding: good where there is no fault, else with the first ``most`` of them."""
    return Finding(name, not faults, "; ".join(faults[:most]))
