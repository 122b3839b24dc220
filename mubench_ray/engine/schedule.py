"""In which order nodes may run: artifacts before what needs them, without a barrier. Plain Python, no Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mubench_ray.engine.job import is_artifact
from mubench_ray.status import USABLE, Status


@dataclass
class Progress:
    """How a run stands; the display reads it while the engine writes it."""

    total: int
    done: int = 0
    failed: int = 0
    truncated: int = 0
    running: int = 0
    artifacts_total: int = 0
    artifacts_done: int = 0
    draining: bool = False


class Schedule:
    """Hands out nodes whose needs are met and learns of their ends.

    ``needs`` maps a trial, and an artifact that is made with others, to the artifacts and trials it waits for (only those still to be made). Artifacts
    are started ahead of trials while fewer than four trials for each of the ``slots`` are ready, so that no worker idles for want of an artifact and
    rows still come early. At most ``limit`` nodes are handed out at a time; None leaves it to the cluster's resources, and some nodes wait there for a
    free slot.
    ``on_lost(trial, reason)`` is told of every trial that could not be run to its end. ``then(node, observed)``, if given, is told of every trial
    that ended, with what it observed (None of a lost one), and returns the trials that now follow, like ``needs``: a search goes on so.
    """

    def __init__(
        self,
        needs: Mapping[str, tuple[str, ...]],
        slots: int,
        on_lost: Callable[[str, str], None],
        limit: int | None = None,
        then: Callable[[str, dict[str, Any] | None], Mapping[str, tuple[str, ...]]] | None = None,
    ) -> None:
        self._waiting: dict[str, set[str]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._artifacts: deque[str] = deque()
        self._ready: deque[str] = deque()
        self._running: set[str] = set()
        self._made: set[str] = set()
        self._known: set[str] = set()
        self._lost: dict[str, str] = {}
        self._slots, self._limit = slots, limit
        self._on_lost, self._then = on_lost, then
        self.progress = Progress(total=sum(not is_artifact(node) for node in needs))
        self.add(needs)

    def add(self, needs: Mapping[str, tuple[str, ...]]) -> None:
        """Take more trials in; what they need may have been made, or lost, already."""
        for node in needs:
            if not is_artifact(node):
                self._take(node, needs)

    def _take(self, node: str, needs: Mapping[str, tuple[str, ...]]) -> None:
        nodes = needs.get(node, ())
        for needed in nodes:
            if is_artifact(needed) and needed not in self._known:
                self._known.add(needed)
                self.progress.artifacts_total += 1
                self._take(needed, needs)
        if lost := [self._lost[needed] for needed in nodes if needed in self._lost]:
            self._lose(node, lost[0])
            return
        for needed in nodes:
            self._dependents.setdefault(needed, []).append(node)
        if waits := set(nodes) - self._made:
            self._waiting[node] = waits
        else:
            self._queue(node)

    def _queue(self, node: str) -> None:
        (self._artifacts if is_artifact(node) else self._ready).append(node)

    def next(self) -> str | None:
        """The next node to run, or None while all that is left waits for running ones (or nothing is left)."""
        if self.progress.draining:
            return None
        if self._limit is not None and len(self._running) >= self._limit:
            return None
        if self._artifacts and len(self._ready) < 4 * self._slots:
            node = self._artifacts.popleft()
        elif self._ready:
            node = self._ready.popleft()
        else:
            return None
        self._running.add(node)
        self.progress.running = min(len(self._running), self._slots)
        return node

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out, now or later."""
        more_may_follow = self._then is not None and self._running
        return self.progress.draining or not (self._artifacts or self._ready or self._waiting or more_may_follow)

    def drain(self) -> None:
        """Hand out nothing more; what runs may end."""
        self.progress.draining = True

    def complete(
        self, node: str, status: str, error: str | None = None, observed: dict[str, Any] | None = None
    ) -> None:
        """A node has ended: unlock or give up what waited for it. Status ``lost`` means that whoever ran it could not write its row: its process died each
        time that it was tried, or could not run it at all."""
        self._running.discard(node)
        self.progress.running = min(len(self._running), self._slots)
        if is_artifact(node):
            self.progress.artifacts_done += 1
            error = f"{node} could not be made: {error}" if status == "lost" else error
        else:
            if status == "lost":
                self._on_lost(node, error)
            self._count(status)
        if status in USABLE:
            self._unlock(node)
        else:
            self._give_up(node, error or status)
        if self._then and not is_artifact(node):
            self.add(self._then(node, observed))

    def _unlock(self, node: str) -> None:
        self._made.add(node)
        for dependent in self._dependents.get(node, []):
            waits = self._waiting.get(dependent)
            if waits is None:
                continue
            waits.discard(node)
            if not waits:
                del self._waiting[dependent]
                self._queue(dependent)

    def _give_up(self, node: str, reason: str) -> None:
        """Everything that waited for a lost node is lost with it, and what waited for that."""
        self._lost[node] = (
            reason if is_artifact(node) else f"the step before it ({node}) ended without a network: {reason}"
        )
        for dependent in self._dependents.get(node, []):
            if dependent in self._waiting:
                del self._waiting[dependent]
                self._lose(dependent, self._lost[node], reason)

    def _lose(self, trial: str, why: str, first_reason: str | None = None) -> None:
        """A trial that cannot run, or an artifact that cannot be made; an artifact has no row."""
        if is_artifact(trial):
            self.progress.artifacts_done += 1
            self._give_up(trial, why)
            return
        self._on_lost(trial, why)
        self._count(Status.FAILED)
        self._give_up(trial, first_reason or why)
        if self._then:
            self.add(self._then(trial, None))

    def _count(self, status: str) -> None:
        self.progress.done += 1
        self.progress.truncated += status == Status.TRUNCATED
        self.progress.failed += status not in USABLE
