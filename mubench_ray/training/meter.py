"""The budget meter: FLOs counted on one step and multiplied, seconds of pure unlearning, and the cap on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from mubench_ray.models.flos import count_flos_apart
from mubench_ray.training.distributed import World
from mubench_ray.training.heartbeat import beat

R = TypeVar("R")


class BudgetSpent(Exception):
    """The next piece of work would pass the cap; nothing of it is charged."""


class OutOfTime(BudgetSpent):
    """The seconds that may be spent by now are spent; there may be more for what comes later."""


class Meter:
    """What has been spent so far, and whether the next step can still be afforded.

    FLOs of a kind of step are counted the first time it runs and charged per example afterwards. Seconds run between ``start`` and
    ``stop`` and leave out what happens inside ``paused`` (evaluation). Caps are None where nothing limits.

    Of several processes the FLOs are those of all, which is what one would spend on the same batches, and the seconds those of rank 0, which decides for all
    whether they are spent.
    """

    def __init__(
        self,
        cap_flos: float | None = None,
        cap_seconds: float | None = None,
        device: str = "cpu",
        world: World | None = None,
    ) -> None:
        self.cap_flos, self.cap_seconds = cap_flos, cap_seconds
        self.world = world or World()
        #: Share of the seconds that may be spent by now, so that time is left for what must come later.
        self.share = 1.0
        #: FLOs that nothing may touch yet.
        self.reserved = 0.0
        self.flos = 0.0
        self.examples = 0
        self._per_example: dict[str, float] = {}
        self._spent = 0.0
        self._since: float | None = None
        self._cuda = device.startswith("cuda")

    @property
    def seconds(self) -> float:
        """Seconds on the clock."""
        return self._spent + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        """Let the clock run."""
        self._since = self._now()

    def stop(self) -> None:
        """Stop the clock."""
        if self._since is not None:
            self._spent += self._now() - self._since
            self._since = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for work that is not unlearning."""
        running = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self.start()

    @property
    def capped(self) -> bool:
        """Whether anything limits this run; training an original or a retrain is not limited."""
        return self.cap_flos is not None or self.cap_seconds is not None

    def knows(self, kind: str) -> bool:
        """Whether this kind of work was counted already."""
        return kind in self._per_example

    def affords(self, kind: str, examples: int) -> bool:
        """Whether a step of this kind stays within both caps; a kind not counted yet is let through."""
        return not self.late() and self.covers(kind, examples)

    def covers(self, kind: str, examples: int) -> bool:
        """Whether a step of this kind stays within the FLOs."""
        return self.flos + self._per_example.get(kind, 0.0) * examples <= self.most_flos - self.reserved

    @property
    def most_flos(self) -> float:
        """The FLOs' cap, and what rounding may add to sums of them; infinite where there is none."""
        return float("inf") if self.cap_flos is None else self.cap_flos * (1 + 1e-9)

    def late(self) -> bool:
        """Whether the seconds that may be spent by now are."""
        return self.cap_seconds is not None and self._late(self.cap_seconds * self.share)

    def _late(self, cap: float) -> bool:
        late = self.seconds >= cap
        return late if self.world.size == 1 else self.world.agree(late)

    def _count(self, work: Callable[[], R]) -> tuple[R, float]:
        """The FLOs of work: what was split among processes is added up, what each did whole is counted once."""
        splits = self.world.splits
        result, flos, apart = count_flos_apart(work)
        if self.world.splits > splits:
            flos = self.world.total(flos - apart) + apart
        return result, flos

    def charge(self, kind: str, examples: int, work: Callable[[], R]) -> R:
        """Run ``work`` and add its FLOs.

        Raises BudgetSpent instead where that passes a cap (OutOfTime: that of the seconds): before the work if its kind was counted already, else after
        it, and then the caller undoes what it did.
        """
        beat()
        self._check(kind, examples)
        if self.knows(kind):
            result = work()
        else:
            result, flos = self._count(work)
            self._per_example[kind] = flos / examples
            self._check(kind, examples)
        self.flos += self._per_example[kind] * examples
        self.examples += examples
        return result

    def _check(self, kind: str, examples: int) -> None:
        if self.late():
            raise OutOfTime(kind)
        if not self.covers(kind, examples):
            raise BudgetSpent(kind)

    def learn(self, other: Meter) -> None:
        """Take over what another meter counted of each kind of work."""
        self._per_example |= other._per_example

    def of(self, kind: str) -> float:
        """FLOs of an example of this kind of work; raises KeyError for one not counted yet."""
        return self._per_example[kind]

    def state_dict(self) -> dict:
        """What a checkpoint needs so that going on elsewhere gives no free compute."""
        return {
            "flos": self.flos,
            "examples": self.examples,
            "per_example": dict(self._per_example),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from a checkpoint."""
        self.flos, self.examples, self._spent = state["flos"], state["examples"], state["seconds"]
        self._per_example = dict(state["per_example"])

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()
