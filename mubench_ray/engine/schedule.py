"""In which order jobs may run, by their names: artifacts before what needs them, without a barrier. Plain Python, no Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mubench_ray.status import USABLE, Status

#: The end of a job that left no row: its process died each time that it was tried, or could not run it at all.
ABANDONED = "abandoned"


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
    """Hands out jobs whose needs are met and learns of their ends.

    ``needs`` maps the job of a trial, and of an artifact that is made with others, to the jobs it waits for (only those still to be done); ``is_artifact``
    tells those of artifacts. Artifacts are started ahead of trials while fewer than four trials for each of the ``slots`` are ready, so that no worker idles
    for want of an artifact and rows still come early. At most ``limit`` jobs are handed out at a time; None leaves it to the cluster's resources, and some
    jobs wait there for a free slot.
    ``on_abandoned(job, reason)`` is told of every trial that could not be run to its end. ``following(job, result)``, if given, is told of every trial
    that ended, with its result (None of an abandoned one), and returns the jobs that now follow, like ``needs``: a search goes on so.
    """

    def __init__(
        self,
        needs: Mapping[str, tuple[str, ...]],
        slots: int,
        on_abandoned: Callable[[str, str], None],
        limit: int | None = None,
        following: Callable[[str, dict[str, Any] | None], Mapping[str, tuple[str, ...]]] | None = None,
        is_artifact: Callable[[str], bool] = lambda job: False,
    ) -> None:
        self._waiting: dict[str, set[str]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._artifacts: deque[str] = deque()
        self._ready: deque[str] = deque()
        self._running: set[str] = set()
        self._made: set[str] = set()
        self._known: set[str] = set()
        self._abandoned: dict[str, str] = {}
        self._slots, self._limit = slots, limit
        self._on_abandoned, self._following, self._is_artifact = on_abandoned, following, is_artifact
        self.progress = Progress(total=sum(not self._is_artifact(job) for job in needs))
        self.add(needs)

    def add(self, needs: Mapping[str, tuple[str, ...]]) -> None:
        """Take more trials in; what they need may have been made, or abandoned, already."""
        for job in needs:
            if not self._is_artifact(job):
                self._take(job, needs)

    def _take(self, job: str, needs: Mapping[str, tuple[str, ...]]) -> None:
        jobs = needs.get(job, ())
        for needed in jobs:
            if self._is_artifact(needed) and needed not in self._known:
                self._known.add(needed)
                self.progress.artifacts_total += 1
                self._take(needed, needs)
        if reasons := [self._abandoned[needed] for needed in jobs if needed in self._abandoned]:
            self._abandon(job, reasons[0])
            return
        for needed in jobs:
            self._dependents.setdefault(needed, []).append(job)
        if waits := set(jobs) - self._made:
            self._waiting[job] = waits
        else:
            self._queue(job)

    def _queue(self, job: str) -> None:
        (self._artifacts if self._is_artifact(job) else self._ready).append(job)

    def next(self) -> str | None:
        """The next job to run, or None while all that is left waits for running ones (or nothing is left)."""
        if self.progress.draining:
            return None
        if self._limit is not None and len(self._running) >= self._limit:
            return None
        while self._artifacts and not self._is_needed(self._artifacts[0]):
            self._known.discard(self._artifacts.popleft())
            self.progress.artifacts_total -= 1
        if self._artifacts and len(self._ready) < 4 * self._slots:
            job = self._artifacts.popleft()
        elif self._ready:
            job = self._ready.popleft()
        else:
            return None
        self._running.add(job)
        self.progress.running = min(len(self._running), self._slots)
        return job

    def _is_needed(self, artifact: str) -> bool:
        """Whether anything still waits for an artifact; what did may have been abandoned meanwhile for want of another one."""
        return any(job in self._waiting for job in self._dependents.get(artifact, []))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out, now or later."""
        more_may_follow = self._following is not None and self._running
        return self.progress.draining or not (self._artifacts or self._ready or self._waiting or more_may_follow)

    def drain(self) -> None:
        """Hand out nothing more; what runs may end."""
        self.progress.draining = True

    def complete(self, job: str, status: str, error: str | None = None, result: dict[str, Any] | None = None) -> None:
        """A job has ended: unlock or give up what waited for it. Status ``abandoned`` means that whoever ran it could not write its row: its process died each
        time that it was tried, or could not run it at all."""
        self._running.discard(job)
        self.progress.running = min(len(self._running), self._slots)
        if self._is_artifact(job):
            self.progress.artifacts_done += 1
            error = f"{job} could not be made: {error}" if status == ABANDONED else error
        else:
            if status == ABANDONED:
                self._on_abandoned(job, error or "no reason is known")
            self._count(status)
        if status in USABLE:
            self._unlock(job)
        else:
            self._give_up(job, error or status)
        if self._following and not self._is_artifact(job):
            self.add(self._following(job, result))

    def _unlock(self, job: str) -> None:
        self._made.add(job)
        for dependent in self._dependents.get(job, []):
            waits = self._waiting.get(dependent)
            if waits is None:
                continue
            waits.discard(job)
            if not waits:
                del self._waiting[dependent]
                self._queue(dependent)

    def _give_up(self, job: str, reason: str) -> None:
        """Everything that waited for an abandoned job is abandoned with it, and what waited for that."""
        self._abandoned[job] = (
            reason if self._is_artifact(job) else f"the step before it ({job}) ended without a network: {reason}"
        )
        for dependent in self._dependents.get(job, []):
            if dependent in self._waiting:
                del self._waiting[dependent]
                self._abandon(dependent, self._abandoned[job], reason)

    def _abandon(self, trial: str, why: str, first_reason: str | None = None) -> None:
        """A trial that cannot run, or an artifact that cannot be made; an artifact has no row."""
        if self._is_artifact(trial):
            self.progress.artifacts_done += 1
            self._give_up(trial, why)
            return
        self._on_abandoned(trial, why)
        self._count(Status.FAILED)
        self._give_up(trial, first_reason or why)
        if self._following:
            self.add(self._following(trial, None))

    def _count(self, status: str) -> None:
        self.progress.done += 1
        self.progress.truncated += status == Status.TRUNCATED
        self.progress.failed += status not in USABLE
