"""A sweep by Optuna through Ray Tune's own searcher, with several objectives at once."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from mubench_ray.methods.base import Space
from mubench_ray.search import Configuration, Ranges, Sweep


class OptunaSweep(Sweep):
    """``count`` configurations, ``generation`` of them at a time, by TPE (multi-objective where there are several losses) or, ``by`` nsga3, by NSGA-III with
    populations of 50, as Deep Unlearn's code searches; the first population is drawn at random."""

    def __init__(
        self, searched: Ranges, objectives: list[str], count: int, generation: int, seed: int, by: str = "optuna"
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
        self._ranges, self._objectives = searched, objectives
        self._left = count if searched.spaces else 1
        self._generation = generation
        self._asked: list[str] = []
        self._number = 0
        space = {name: domain(each) for name, each in searched.spaces.items()}
        modes = ["min"] * len(objectives)
        # An empty space has one configuration, which needs no searcher.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.NSGAIIISampler(seed=seed) if by == "nsga3" else None
        own = None if sampler else seed
        self._searcher = OptunaSearch(space, objectives, modes, sampler=sampler, seed=own) if space else None

    def ask(self) -> list[Configuration]:
        """The next generation."""
        self._asked = [f"{self._number + i}" for i in range(min(self._left, self._generation))]
        self._number += len(self._asked)
        self._left -= len(self._asked)
        drawn = [(self._searcher.suggest(name) or {}) if self._searcher else {} for name in self._asked]
        return [self._ranges.configuration(values) for values in drawn]

    def tell(self, losses: list[tuple[float, ...] | None]) -> None:
        """The losses of that generation; one without a usable network counts as failed."""
        for name, found in zip(self._asked, losses):
            if self._searcher:
                result = dict(zip(self._objectives, found)) if found is not None else None
                self._searcher.on_trial_complete(name, result, error=found is None)


def domain(space: Space) -> Any:
    """A space in Tune's words."""
    if space.kind == "choice":
        return tune.choice(list(space.choices))
    if space.kind == "integer":
        return tune.randint(int(space.low), int(space.high) + 1)
    return (tune.loguniform if space.kind == "log_uniform" else tune.uniform)(space.low, space.high)
