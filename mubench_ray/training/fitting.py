"""What of a run fits its budget, settled before its first step: every phase keeps its place, at a share of its passes, and what comes after is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Cost:
    """What one phase costs, in FLOs: its hooks and each of its steps; ``whole``: shortened last."""

    before: float
    steps: Sequence[float]
    after: float
    whole: bool = False


@dataclass(frozen=True)
class Fitted:
    """``steps`` of every phase; whether they are ``complete``, as the method asks; FLOs of the ``finish``; by which share of the run's cost each phase
    ends its steps (``steps_by``)."""

    steps: list[int]
    complete: bool
    finish: float
    steps_by: list[float]


def fit(costs: Sequence[Cost], finish: float, cap: float | None) -> Fitted:
    """The steps of every phase within ``cap`` FLOs (None: all), of which the hooks and ``finish`` are paid first.

    One share of their steps is taken of all phases, rounded to a step that fits and never below one; of those that are ``whole`` only where one step of
    each of the others is too much beside them. Where not even that fits every phase has one step left, and the meter says when it ends.
    """
    sums = [[0.0, *accumulate(cost.steps)] for cost in costs]

    def taken(cost: Cost, share: float, also_whole: bool) -> int:
        most = len(cost.steps)
        return most if cost.whole and not also_whole else min(most, max(1, int(share * most + 1e-9)))

    def parts(steps: Sequence[int]) -> list[tuple[float, float, float]]:
        return [(c.before, sums[i][n], c.after) for i, (c, n) in enumerate(zip(costs, steps))]

    def total(steps: Sequence[int]) -> float:
        return sum(map(sum, parts(steps))) + finish

    steps = everything = [len(cost.steps) for cost in costs]
    if cap is not None:
        for also_whole in (False, True):
            # Every share at which a phase gains a step, none at all first: the last that fits.
            shares = sorted({0.0, *(k / len(c.steps) for c in costs for k in range(1, len(c.steps) + 1))})
            low, high = 0, len(shares)
            while high - low > 1:
                middle = (low + high) // 2
                fits = total([taken(cost, shares[middle], also_whole) for cost in costs]) <= cap
                low, high = (middle, high) if fits else (low, middle)
            steps = [taken(cost, shares[low], also_whole) for cost in costs]
            if total(steps) <= cap:
                break
        # What rounding down left over: one more step each, of those first that are nearest to it.
        short = [place for place, most in enumerate(everything) if steps[place] < most]
        for place in sorted(short, key=lambda place: (steps[place] + 1) / everything[place]):
            longer = [n + (place == other) for other, n in enumerate(steps)]
            steps = longer if total(longer) <= cap else steps
    spent, whole, steps_by = 0.0, total(steps), []
    if not whole:  # nothing is known of what it costs
        return Fitted(steps, steps == everything, finish, [1.0] * len(steps))
    for before, stepping, after in parts(steps):
        steps_by.append((spent + before + stepping) / whole)
        spent += before + stepping + after
    if not finish and costs and not costs[-1].after:  # nothing comes after the last phase: its time is all there is
        steps_by[-1] = 1.0
    return Fitted(steps, steps == everything, finish, steps_by)
