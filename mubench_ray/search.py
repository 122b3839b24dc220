"""Search on equal terms: which configurations of a method are tried, how each is judged, which one is chosen. Plain Python.

Deep Unlearn (arXiv 2410.01276) tunes every method with 3 sweeps of 100 trials on four losses:
|RA - RA_r| / 3 + |FA - FA_r| / 3 + |VA - VA_r| / 3 + Disc(D_V). MU-Bench (arXiv 2406.14796) takes the best learning rate of its grid.
Nothing that is judged here reads D_Test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS, LearningRate
from mubench_ray.methods.base import Space
from mubench_ray.metrics import METRICS
from mubench_ray.metrics.base import SPLITS, reads, source
from mubench_ray.metrics.selection import OBJECTIVES as OBJECTIVES
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.randomness import numpy_generator
from mubench_ray.status import is_usable


@dataclass(frozen=True)
class Configuration:
    """What a search decides: a method's hyperparameters, all of them, and its learning rate (None where it takes no gradient steps)."""

    hyperparameters: dict[str, Any]
    lr: float | None


@dataclass(frozen=True)
class Ranges:
    """The searched part of a method: a space for each hyperparameter (and for ``lr``), and the values of what is not searched."""

    spaces: dict[str, Space]
    fixed: Configuration

    def configuration(self, drawn: Mapping[str, Any]) -> Configuration:
        """The whole configuration of drawn values; raises MubenchError for one out of range."""
        values = {name: self.spaces[name].check(name, value) for name, value in drawn.items()}
        # One value, one text, as in ``Method.configure``.
        known = self.fixed.hyperparameters
        values = {name: known[name] if value == known.get(name) else value for name, value in values.items()}
        lr = values.pop("lr", self.fixed.lr)
        said = {name: value for name, value in values.items() if value != self.spaces[name].unsaid}
        return Configuration({**self.fixed.hyperparameters, **said}, lr)

    def at_edge(self, chosen: Configuration) -> list[str]:
        """What of a chosen configuration lies at the edge of what was searched (``Space.at_edge``)."""
        values = {**chosen.hyperparameters, "lr": chosen.lr}
        return [name for name, space in self.spaces.items() if name in values and space.at_edge(values[name])]


def ranges(
    method: str,
    given: Mapping[str, Any],
    lrs: Sequence[float | None] | LearningRate,
    searched: str | Sequence[str],
    grid: bool,
) -> Ranges:
    """What is searched of a method: ``searched`` is ``all``, ``lr`` or names; what a suite sets by hand stays as it is.

    The learning rate is searched among ``lrs`` in a grid, else log-uniformly between the smallest and the largest; or, where they are the method's own,
    through its range.
    """
    cls = METHODS.get(method)
    given = cls.with_preset(given)
    everything = {name for name, space in cls.spaces().items() if space.searched}
    names = everything if searched == "all" else {searched} if isinstance(searched, str) else set(searched)
    spaces = {name: space for name, space in cls.spaces().items() if name in names and name not in given}
    rates = [lrs.default] if isinstance(lrs, LearningRate) else list(lrs)
    fixed = Configuration(cls.configure(given).hyperparameters(), rates[0] if cls.uses_lr else None)
    if isinstance(lrs, LearningRate) and (searched == "all" or "lr" in names):
        spaces["lr"] = Space("log_uniform", lrs.low, lrs.high)
    elif cls.uses_lr and len(set(rates)) > 1 and (searched == "all" or "lr" in names):
        choices = tuple(sorted({lr for lr in rates if lr is not None}))
        spaces["lr"] = Space("choice", choices=choices) if grid else Space("log_uniform", choices[0], choices[-1])
    return Ranges(spaces, fixed)


def draw(space: Space, rng: np.random.Generator) -> Any:
    """One value of a space."""
    if space.kind == "choice":
        return space.choices[rng.integers(len(space.choices))]
    if space.kind == "integer":
        return int(rng.integers(int(space.low), int(space.high) + 1))
    if space.kind == "log_uniform":
        return float(math.exp(rng.uniform(math.log(space.low), math.log(space.high))))
    return float(rng.uniform(space.low, space.high))


def points(space: Space, count: int) -> list[Any]:
    """``count`` values spread evenly over a space on its own scale; all values of a choice."""
    if space.kind == "choice":
        return list(space.choices)
    if space.kind == "log_uniform":
        return np.geomspace(space.low, space.high, count).tolist()
    spread = np.linspace(space.low, space.high, count)
    return sorted({int(value) for value in spread.round()}) if space.kind == "integer" else spread.tolist()


class Sweep:
    """Configurations in generations: ``ask`` for the next one, ``tell`` the losses of the last; deterministic in what it is told.

    A generation is told as a whole and in its own order, so that the same losses lead to the same configurations whatever the concurrency was.
    """

    def ask(self) -> list[Configuration]:
        """The next generation; empty at the end."""
        raise NotImplementedError

    def tell(self, losses: list[tuple[float, ...] | None]) -> None:
        """The losses of the last generation, None for a configuration without a usable network."""


class Listed(Sweep):
    """All configurations at once."""

    def __init__(self, configurations: Iterable[Configuration]) -> None:
        self._left = list(configurations)

    def ask(self) -> list[Configuration]:
        """All of them, then nothing."""
        asked, self._left = self._left, []
        return asked


def grid_sweep(searched: Ranges, per_range: int, most: int | None, seed: int) -> Listed:
    """The grid over all ranges; where it holds more than ``most`` configurations, so many of them, drawn without replacement."""
    names = list(searched.spaces)
    grid = list(product(*(points(searched.spaces[name], per_range) for name in names)))
    if most is not None and len(grid) > most:
        grid = [grid[i] for i in sorted(numpy_generator("grid", seed).permutation(len(grid))[:most])]
    return Listed(searched.configuration(dict(zip(names, values))) for values in grid)


def random_sweep(searched: Ranges, count: int, seed: int) -> Listed:
    """``count`` independent draws; the method's defaults are not among them unless drawn."""
    rng = numpy_generator("search", seed)
    drawn = [{name: draw(space, rng) for name, space in searched.spaces.items()} for _ in range(count)]
    return Listed(searched.configuration(values) for values in drawn)


def check_objectives(objectives: Mapping[str, float]) -> dict[str, float]:
    """Objectives by their metric's name; raises MubenchError for one that is unknown, has no direction or comes from D_Test."""
    checked = {}
    for given, weight in objectives.items():
        name = METRICS.canonical(given)
        metric = METRICS.get(name)
        if metric.direction == "neither" and metric.ideal is None:
            raise MubenchError(
                f"objective {name!r}: neither low nor high values of it are better; take another metric."
            )
        for need in sorted(reads(name)):
            come = origin(need)
            if come is None or "D_Test" in come:
                undeclared = "may come from D_Test for all that is declared (metrics.base.declare)"
                told = undeclared if come is None else "comes from D_Test"
                raise MubenchError(
                    f"objective {name!r} reads {need}, which {told}: a search never sees D_Test. Use D_V's metric."
                )
        if not weight > 0:
            raise MubenchError(f"objective {name!r}: weight {weight:g} is not above 0.")
        checked[name] = float(weight)
    return checked


def origin(need: str) -> frozenset[str] | None:
    """Where an input of a metric comes from: an observation that is asked for says what it reads; of all else it is declared, or the name says it."""
    for _, kind in OBSERVATIONS:
        if kind.asked and kind.is_given(need):
            return frozenset(SPLITS[word] for read in kind.reads for word in read.split() if word in SPLITS)
    return source(need)


def losses(row: Mapping[str, Any], objectives: Mapping[str, float]) -> tuple[float, ...] | None:
    """Each objective as a weighted loss, 0 at its best where it has a best; None where the trial failed or took no step, or one is undefined."""
    if not is_usable(row):
        return None
    found = []
    for name, weight in objectives.items():
        metric, value = METRICS.get(name), row.get(name)
        if value is None or not math.isfinite(value):
            return None
        if metric.direction == "neither":
            loss = abs(value - metric.ideal)
        elif metric.direction == "lower":
            loss = value
        else:
            loss = metric.high - value if math.isfinite(metric.high) else -value
        found.append(weight * loss)
    return tuple(found)


def mean_losses(per_seed: Sequence[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    """The mean over the selection seeds; None where any of them gave no usable network."""
    usable = [each for each in per_seed if each is not None]
    if not usable or len(usable) < len(per_seed):
        return None
    return tuple(float(value) for value in np.mean(usable, axis=0))


def choose(judged: Sequence[tuple[Configuration, tuple[float, ...] | None]]) -> int | None:
    """Index of the configuration with the smallest sum of losses, the first of equals; None where none is usable."""
    usable = [(sum(found), i) for i, (_, found) in enumerate(judged) if found is not None]
    return min(usable)[1] if usable else None
