"""Search on equal terms: which configurations of a method are tried, how each is judged, which one is chosen. Plain Python.

Deep Unlearn (arXiv 2410.01276) tunes every method with 3 sweeps of 100 trials on four losses, |RA - RA_r| / 3, |FA - FA_r| / 3, |VA - VA_r| / 3 and Disc(D_V);
its code takes the trial for which their Euclidean norm is smallest. MU-Bench (arXiv 2406.14796) takes the best learning rate of its grid.
Nothing that is judged here reads D_Test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS, LearningRate, Method
from mubench_ray.methods.base import Space
from mubench_ray.metrics import METRICS
from mubench_ray.metrics.base import SPLITS, reads, source
from mubench_ray.metrics.selection import OBJECTIVES as OBJECTIVES
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.randomness import numpy_generator
from mubench_ray.status import is_usable
from mubench_ray.trial import CONTROLS, Unlearning

#: By what the best configuration is found: the smallest sum of its losses, or their smallest Euclidean norm.
CHOSEN_BY: dict[str, Callable[[Sequence[float]], float]] = {"sum": sum, "norm": lambda losses: math.hypot(*losses)}
#: Options of the trial that may be set beside a method, and searched, like its hyperparameters (one of its own of that name comes first), and where they are
#: searched unless a suite says where: batch sizes and decay as in Deep Unlearn.
OPTIONS = {
    "batch_size": Space("choice", choices=(64, 128, 256)),
    "weight_decay": Space("log_uniform", 1e-5, 1e-1),
    "optimizer": Space("choice", choices=("adam", "sgd")),
}
#: Learning rates, above 0 and by their logarithm.
RATES = Space("log_uniform", 1e-5, 1e-1)
#: Those that only gradient steps read.
OF_STEPS = ("weight_decay", "optimizer")
#: A grid of at most so many points is thinned by a permutation of them all (4 bytes each); of a larger one points are drawn until enough of them differ.
PERMUTED = 2**24
#: More points than this are no grid that anybody runs as a whole.
WHOLE = 10**6


@dataclass(frozen=True)
class Configuration:
    """What a search decides: a method's hyperparameters, all of them, its learning rate (None where it takes no gradient steps), and those options of the trial
    that are searched."""

    hyperparameters: dict[str, Any]
    lr: float | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranges:
    """The searched part of a method: a space for each hyperparameter (for ``lr`` and for options of the trial too), and the values of what is not searched.

    ``own`` are the method's own spaces, which say what a hyperparameter may be wherever it is searched.
    """

    spaces: dict[str, Space]
    fixed: Configuration
    own: Mapping[str, Space] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """The searched options of the trial."""
        return sorted(name for name in self.spaces if name in OPTIONS and name not in self.own)

    def configuration(self, drawn: Mapping[str, Any]) -> Configuration:
        """The whole configuration of drawn values; raises MubenchError for one out of range."""
        values = {name: self.own.get(name, self.spaces[name]).check(name, value) for name, value in drawn.items()}
        # One value, one text, as in ``Method.configure``.
        known = self.fixed.hyperparameters
        values = {name: known[name] if value == known.get(name) else value for name, value in values.items()}
        lr = values.pop("lr", self.fixed.lr)
        options = {name: values.pop(name) for name in self.options if name in values}
        said = {name: value for name, value in values.items() if value != self.own.get(name, self.spaces[name]).unsaid}
        return Configuration({**self.fixed.hyperparameters, **said}, lr, {**self.fixed.options, **options})

    def at_edge(self, chosen: Configuration) -> list[str]:
        """What of a chosen configuration lies at the edge of what was searched (``Space.at_edge``)."""
        values = {**chosen.hyperparameters, **chosen.options, "lr": chosen.lr}
        # What a hyperparameter may be is said by its own space, wherever a suite has it searched.
        spaces = {name: space.within(self.own.get(name)) for name, space in self.spaces.items()}
        return [name for name, space in spaces.items() if name in values and space.at_edge(values[name])]


def options_of(method: type[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the trial among what is set beside a method, checked; raises MubenchError for a value that is none, and where it would change nothing."""
    found = {name: value for name, value in given.items() if name in OPTIONS and name not in method.spaces()}
    for name in found:
        if method.name in CONTROLS or (name in OF_STEPS and not method.uses_lr):
            why = "unlearns nothing" if method.name in CONTROLS else "takes no gradient steps"
            raise MubenchError(f"method {method.name} {why}, and {name} would change nothing: leave it out.")
    return {name: check_option(f"{method.name}.{name}", name, value) for name, value in found.items()}


def check_option(told: str, name: str, value: Any) -> Any:
    """The value of an option of the trial in its type; raises MubenchError, in which it is called ``told``."""
    try:
        return getattr(Unlearning.model_validate({name: value}), name)
    except ValidationError as error:
        raise MubenchError(f"{told} = {value!r}: {error.errors()[0]['msg']}.") from None


def check_space(told: str, name: str, space: Space, own: Space | None) -> None:
    """Raises MubenchError where a space, which is called ``told``, holds what the method's ``own`` one refuses or, without one, the option of the trial."""
    for value in space.choices if space.kind == "choice" else (space.low, space.high):
        own.check(told, value) if own else check_option(told, name, value)
    if space.kind == "log_uniform" and space.low <= 0:
        raise MubenchError(
            f"{told} begins at {space.low:g}, and a logarithmic scale begins above 0: say scale: linear, or another low."
        )
    if own is None and name == "batch_size" and space.kind not in ("choice", "integer"):
        raise MubenchError(f"{told} takes whole numbers: name its values, or say scale: integer.")


def asked(method: type[Method], searched: str | Sequence[str]) -> set[str]:
    """Names of what is searched of a method, ``lr`` and options of the trial among them: of ``all`` everything of its own that it has searched."""
    words = {searched} if isinstance(searched, str) else set(searched)
    if "all" in words:
        words |= {"lr", *(name for name, space in method.spaces().items() if space.searched)}
    options = OPTIONS.keys() - (set() if method.uses_lr else set(OF_STEPS))
    return words & {*method.spaces(), *options, *(["lr"] if method.uses_lr else [])}


def lr_space(lrs: Sequence[float | None] | LearningRate, grid: bool) -> Space | None:
    """Where a learning rate is searched: among ``lrs`` in a grid, else log-uniformly between the smallest and the largest; None where there is but one. Through
    the range of a method's own."""
    if isinstance(lrs, LearningRate):
        return Space("log_uniform", lrs.low, lrs.high)
    choices = tuple(sorted({lr for lr in lrs if lr is not None}))
    if len(choices) < 2:
        return None
    return Space("choice", choices=choices) if grid else Space("log_uniform", choices[0], choices[-1])


def widest(rates: Sequence[LearningRate]) -> LearningRate:
    """The range that holds those of several optimisers, between which a search chooses; the default is the first one's."""
    low, high = min(rate.low for rate in rates), max(rate.high for rate in rates)
    return LearningRate(rates[0].default, low, high, "; ".join(rate.source for rate in rates))


def ranges(
    method: str,
    given: Mapping[str, Any],
    lrs: Sequence[float | None] | LearningRate,
    searched: str | Sequence[str],
    grid: bool,
    said: Mapping[str, Space] | None = None,
) -> Ranges:
    """What is searched of a method: ``searched`` is ``all``, ``lr`` or names, ``all`` among them; what a suite sets by hand, ``given``, stays as it is.

    ``said`` are the spaces that take the place of the method's own, of those of OPTIONS and of what ``lrs`` say. Raises MubenchError for one that holds what
    the method refuses.
    """
    cls, said = METHODS.get(method), said or {}
    options = options_of(cls, given)
    own, given = cls.spaces(), cls.with_preset({name: value for name, value in given.items() if name not in options})
    names = asked(cls, searched) - given.keys() - options.keys()
    first = lrs.default if isinstance(lrs, LearningRate) else lrs[0]
    for name in said.keys() & names:
        check_space(f"search.spaces.{name} of {method}", name, said[name], RATES if name == "lr" else own.get(name))
    found = {name: said.get(name, space) for name, space in (OPTIONS | own).items() if name in names}
    # The order of the spaces is that of a draw: the method's own in theirs, then the learning rate, then options of the trial.
    spaces = {name: found[name] for name in own if name in found}
    if isinstance(lrs, LearningRate) and "optimizer" in found and "optimizer" not in own:
        lrs = widest([cls.learning_rates[optimizer] for optimizer in found["optimizer"].choices])
    if "lr" in names and (lr := said.get("lr") or lr_space(lrs, grid)):
        spaces["lr"] = lr
    spaces |= {name: space for name, space in found.items() if name not in own}
    fixed = Configuration(cls.configure(given).hyperparameters(), first if cls.uses_lr else None)
    return Ranges(spaces, fixed, own)


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


def grid_axes(searched: Ranges, per_range: int) -> dict[str, list[Any]]:
    """The values of a grid along each of its spaces."""
    return {name: points(space, per_range) for name, space in searched.spaces.items()}


def grid_size(searched: Ranges, per_range: int, most: int | None) -> int:
    """How many configurations ``grid_sweep`` has; nothing is drawn for it. Raises MubenchError for a whole grid that nobody can run."""
    size = math.prod(map(len, grid_axes(searched, per_range).values()))
    if most is None and size > WHOLE:
        named = ", ".join(searched.spaces)
        raise MubenchError(
            f"search: a grid over {named} at {per_range} points each has {size:,} configurations, more than anybody runs: say how many in trials, or search "
            "fewer hyperparameters."
        )
    return size if most is None else min(size, most)


def grid_sweep(searched: Ranges, per_range: int, most: int | None, seed: int) -> Listed:
    """The grid over all ranges; where it holds more than ``most`` configurations, so many of them, drawn without replacement. No more of the grid is made than
    what is drawn of it."""
    axes = grid_axes(searched, per_range)
    size = math.prod(lengths := tuple(map(len, axes.values())))
    count = grid_size(searched, per_range, most)
    numbers = range(size) if count == size else thinned(lengths, count, seed)
    return Listed(searched.configuration(grid_point(axes, number)) for number in numbers)


def grid_point(axes: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """The ``number``-th point of a grid, whose last axis runs fastest."""
    found = {}
    for name in reversed(list(axes)):
        number, at = divmod(number, len(axes[name]))
        found[name] = axes[name][at]
    return {name: found[name] for name in axes}


@functools.lru_cache(maxsize=64)
def thinned(lengths: tuple[int, ...], count: int, seed: int) -> tuple[int, ...]:
    """Numbers of ``count`` points of a grid with axes of these lengths, without replacement, rising."""
    rng, size = numpy_generator("grid", seed), math.prod(lengths)
    if size <= PERMUTED:
        order = np.arange(size, dtype=np.int32)
        rng.shuffle(order)
        return tuple(sorted(order[:count].tolist()))
    drawn: set[int] = set()
    while len(drawn) < count:
        # Along each axis on its own: the whole may have more points than an integer of numpy's can number.
        drawn.add(functools.reduce(lambda number, length: number * length + int(rng.integers(length)), lengths, 0))
    return tuple(sorted(drawn))


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


def check_norm(objectives: Mapping[str, float]) -> None:
    """Raises MubenchError for an objective whose loss may lie below 0, which a Euclidean norm would take for large."""
    for name in objectives:
        metric = METRICS.get(name)
        lowest = {"lower": metric.low, "higher": 0.0 if math.isfinite(metric.high) else -math.inf, "neither": 0.0}
        if lowest[metric.direction] < 0:
            raise MubenchError(
                f"objective {name!r}: its loss has no best value of 0, and a Euclidean norm would take what is far below 0 for bad. Choose by their sum "
                "(chosen_by: sum), or take another metric."
            )


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


def choose(judged: Sequence[tuple[Configuration, tuple[float, ...] | None]], by: str = "sum") -> int | None:
    """Index of the configuration with the smallest sum of losses, or the smallest norm (CHOSEN_BY), the first of equals; None where none is usable."""
    usable = [(CHOSEN_BY[by](found), i) for i, (_, found) in enumerate(judged) if found is not None]
    return min(usable)[1] if usable else None
