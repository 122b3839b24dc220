"""The ``search`` of a suite: what of every method is searched, where, how each configuration is judged; and the papers' searches as presets."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mubench_ray.errors import SuiteError, did_you_mean
from mubench_ray.methods import METHODS
from mubench_ray.methods.base import Space
from mubench_ray.metrics.base import reads
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.schema import Listed, Part, Seed
from mubench_ray.search import OBJECTIVES, OPTIONS, RATES, asked, check_norm, check_objectives, options_of
from mubench_ray.tasks import TASKS
from mubench_ray.trial import Unlearning

Scale = Literal["linear", "log", "integer"]
KINDS: dict[str, Literal["uniform", "log_uniform", "integer"]] = {
    "linear": "uniform",
    "log": "log_uniform",
    "integer": "integer",
}


class SearchSpace(Part):
    """Where one name is searched: among ``values`` (a list in a suite file stands for them), or from ``low`` to ``high``, or up to the ``training_share``
    of the epochs that an original of the task is trained for, rounded up; on the ``scale`` that the hyperparameter itself has, unless one is said."""

    values: list[Any] | None = Field(default=None, min_length=1)
    low: float | None = None
    high: float | None = None
    training_share: float | None = Field(default=None, gt=0)
    scale: Scale | None = None

    @model_validator(mode="after")
    def _values_or_a_range(self) -> SearchSpace:
        ends = [self.high, self.training_share]
        if self.values is not None:
            if (self.low, *ends, self.scale) != (None,) * 4:
                raise ValueError("values are all there is to say; leave low, high, training_share and scale out")
            return self
        if self.low is None or ends.count(None) != 1:
            raise ValueError(
                "name the values, as in [64, 128], or the ends of a range, as in {low: 0.1, high: 1, scale: log}; "
                "training_share may stand in the place of high"
            )
        if self.high is not None and self.high < self.low:
            raise ValueError(f"high = {self.high:g} is below low = {self.low:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low = {self.low:g} is not above 0, where a logarithmic scale begins")
        if self.scale == "integer" and not all(end is None or end.is_integer() for end in (self.low, self.high)):
            raise ValueError("an integer scale goes from one whole number to another")
        return self

    def space(self, own: Space | None, epochs: float) -> Space:
        """The space, of a hyperparameter that declares ``own``, where originals are trained for so many epochs."""
        if self.values is not None or self.low is None:
            return Space("choice", choices=tuple(self.values or ()))
        high = self.high
        if high is None:
            # The product of a share and of epochs may lie an ulp above the whole number that it is.
            high = max(self.low, math.ceil(round((self.training_share or 0.0) * epochs, 9)))
        return Space(KINDS[self.scale] if self.scale else kind_of(own), self.low, high)


def kind_of(own: Space | None) -> Literal["uniform", "log_uniform", "integer"]:
    """On which scale a range of a name is searched that declares this space: whole numbers to choose from are an integer's, and other things nobody's."""
    if own is None or own.kind == "choice":
        whole = own is not None and all(type(choice) is int for choice in own.choices)
        return "integer" if whole else "uniform"
    return own.kind


def _spelled_out(value: Any) -> Any:
    return {"values": value} if isinstance(value, list) else value


Spaces = dict[str, Annotated[SearchSpace, BeforeValidator(_spelled_out)]]
#: Epochs in Deep Unlearn's code: whole numbers from 1 to ceil(.2 E), 37 on CIFAR and 10 elsewhere.
EPOCHS = {"low": 1, "training_share": 0.2, "scale": "integer"}
DEEP_UNLEARN: dict[str, Any] = {
    "strategy": "nsga3",
    "trials": 100,
    "sweeps": 3,
    "sweeps_on": "own_seed",
    "chosen_by": "norm",
    "hyperparameters": ["all", "batch_size", "weight_decay"],
    "spaces": {
        "lr": {"low": 1e-5, "high": 1e-1, "scale": "log"},
        "weight_decay": {"low": 1e-5, "high": 1e-1, "scale": "log"},
        "batch_size": {"values": [64, 128, 256]},
        **dict.fromkeys(("epochs", "msteps", "warmup_epochs", "fine_epochs"), EPOCHS),
        # With one early epoch RNI adds no noise.
        "early_epochs": EPOCHS | {"low": 2},
    },
    "of_tasks": {"utkface": {"batch_size": {"values": [64, 128]}}},
    "of_methods": {"prmq": {"epochs": EPOCHS | {"scale": "linear"}}},
}
#: What the two papers do: MU-Bench; Deep Unlearn as its code does it but for the seeds, and with those too.
PRESETS: dict[str, dict[str, Any]] = {
    "mu_bench": {"strategy": "grid", "trials": None, "hyperparameters": "lr"},
    "deep_unlearn": DEEP_UNLEARN | {"seeds": [1001, 1002, 1003]},
    "deep_unlearn_released": DEEP_UNLEARN | {"seeds": [0, 1, 2], "seeds_shared": True},
}
#: Methods in the form that Deep Unlearn's code has, which it does not search; Bad-T alone runs with Adam there.
FORMS: dict[str, dict[str, Any]] = {
    "bad_t": {"optimizer": "adam", "form": "mixed", "retain_share": 1.0},
    "scrub": {"form": "alternating", "rewind": True, "decay_after": "0.5,0.8,0.9"},
    "iu": {"samples": 1000},
}
#: What a preset sets beside a method, where the suite neither sets it nor names it to be searched.
SET_BY_PRESET = {name: FORMS for name in ("deep_unlearn", "deep_unlearn_released")}
#: Those parts of a preset of which a suite may replace single names.
NAMEWISE = ("spaces", "of_tasks", "of_methods")


class Search(Part):
    """A search on equal terms before the reported trials: the same number of configurations for every method, on seeds that are not reported.

    ``preset`` fills in what a paper does: ``mu_bench`` (the best learning rate of the grid), ``deep_unlearn`` (three sweeps of 100 configurations, one on
    each of three selection seeds) or ``deep_unlearn_released`` (the same on the seeds that its code takes, 0, 1 and 2, which it reports too).
    """

    preset: Literal["mu_bench", "deep_unlearn", "deep_unlearn_released"] | None = None
    #: ``optuna`` is its TPE, ``nsga3`` its NSGA-III.
    strategy: Literal["grid", "random", "optuna", "nsga3"] = "random"
    #: Configurations a sweep and method; None takes the whole grid.
    trials: int | None = Field(default=20, ge=1)
    sweeps: int = Field(default=1, ge=1)
    #: Selection seeds: every configuration is tried with each (its original and retrain are trained with it too).
    seeds: Annotated[list[Seed], Listed] = Field(default=[1001], min_length=1)
    #: Whether every sweep tries its configurations on all selection seeds, or the first on the first of them alone, the second on the second.
    sweeps_on: Literal["all_seeds", "own_seed"] = "all_seeds"
    #: Whether selection seeds may be reporting seeds; every name that was tuned so is marked.
    seeds_shared: bool = False
    #: What is searched: ``all``, ``lr``, or names of hyperparameters, of options of the trial (batch_size, weight_decay, optimizer) and ``all``, all
    #: hyperparameters and the learning rate; what the suite sets by hand is never searched.
    hyperparameters: str | list[str] = "all"
    #: Where, instead of where the method has it searched; of one task or method in the place of that.
    spaces: Spaces = {}
    of_tasks: dict[str, Spaces] = {}
    of_methods: dict[str, Spaces] = {}
    #: Metrics with their weights; never one that reads D_Test.
    objectives: dict[str, float] = OBJECTIVES
    #: Of all configurations of all sweeps the one is taken with the smallest sum of losses, or the smallest Euclidean norm.
    chosen_by: Literal["sum", "norm"] = "sum"
    #: Values of a continuous range in a grid, and configurations that Optuna is asked for at a time.
    points: int = Field(default=3, ge=2)
    generation: int = Field(default=10, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, content: Any) -> Any:
        preset = PRESETS.get(content.get("preset") or "", {}) if isinstance(content, dict) else {}
        if not preset:
            return content
        own = {name: content[name] for name in NAMEWISE if isinstance(content.get(name), dict)}
        return {**preset, **content, **{name: preset.get(name, {}) | own[name] for name in own}}

    @field_validator("objectives")
    @classmethod
    def _usable(cls, objectives: dict[str, float]) -> dict[str, float]:
        return check_objectives(objectives)

    @field_validator("of_tasks")
    @classmethod
    def _known_tasks(cls, given: dict[str, Spaces]) -> dict[str, Spaces]:
        return {TASKS.canonical(name): spaces for name, spaces in given.items()}

    @field_validator("of_methods")
    @classmethod
    def _known_methods(cls, given: dict[str, Spaces]) -> dict[str, Spaces]:
        return {METHODS.canonical(name): spaces for name, spaces in given.items()}

    @model_validator(mode="after")
    def _whole(self) -> Search:
        if self.trials is None and self.strategy != "grid":
            raise ValueError("trials: only a grid may leave the number of configurations open")
        if self.sweeps_on == "own_seed" and len(self.seeds) != self.sweeps:
            raise ValueError(
                f"sweeps_on: own_seed gives each of {self.sweeps} sweeps one of {len(self.seeds)} seeds: name as many seeds as sweeps, or try every "
                "configuration on all seeds (sweeps_on: all_seeds)"
            )
        if self.chosen_by == "norm":
            check_norm(self.objectives)
        return self

    def seeds_of(self, sweep: int) -> list[int]:
        """The selection seeds on which a sweep's configurations are tried, the first sweep being 0."""
        return [self.seeds[sweep]] if self.sweeps_on == "own_seed" else self.seeds

    def spaces_of(self, task: str, method: str, epochs: float) -> dict[str, Space]:
        """Where the search looks for the values of a method's names on a task whose originals are trained for so many epochs, as far as it is said here."""
        own = OPTIONS | {"lr": RATES} | METHODS.get(method).spaces()
        said = {**self.spaces, **self.of_methods.get(method, {}), **self.of_tasks.get(task, {})}
        return {name: space.space(own.get(name), epochs) for name, space in said.items()}

    def of_preset(self, name: str) -> bool:
        """Whether it is the preset that says where a name is searched."""
        preset = PRESETS.get(self.preset or "", {}).get("spaces", {}).get(name)
        return preset is not None and self.spaces.get(name) == SearchSpace.model_validate(preset)

    @property
    def told(self) -> str:
        """How the sweeps become one configuration."""
        best = "the smallest Euclidean norm of its losses" if self.chosen_by == "norm" else "the smallest sum of losses"
        if self.sweeps == 1:
            return f"of all configurations the one with {best}"
        of = f"of the configurations of all {self.sweeps} sweeps together the one with {best}"
        return of + (", each judged on its own sweep's seed alone" if self.sweeps_on == "own_seed" else "")


def set_by_preset(search: Search, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the search's preset sets beside a method that the suite neither sets (``given``) nor names to be searched."""
    words = search.hyperparameters
    known = ({words} if isinstance(words, str) else {*words}) | search.of_methods.get(method, {}).keys() | given.keys()
    added = SET_BY_PRESET.get(search.preset or "", {}).get(method, {})
    return {name: value for name, value in added.items() if name not in known}


#: An entry of a suite's methods: its name, and what is set beside it.
Entry = tuple[str, Mapping[str, Any]]


def check_search(
    search: Search,
    where: str,
    methods: Sequence[Entry],
    reported: Collection[int],
    observed: Collection[str],
    unlearning: Unlearning,
) -> None:
    """Raises SuiteError where a search would see what is reported (the ``reported`` seeds), or cannot be; ``observed`` are the observations of the suite."""
    if not search.seeds_shared and (shared := sorted(set(reported) & set(search.seeds))):
        raise SuiteError(
            f"{where}: search.seeds: {shared[0]} is a reporting seed too; selection needs seeds of its own (or, as in Deep Unlearn's code and with a mark "
            "beside what is tuned so, seeds_shared: true)."
        )
    for objective in search.objectives:
        for name, kind in OBSERVATIONS:
            if kind.asked and name not in observed and any(map(kind.is_given, reads(objective))):
                raise SuiteError(
                    f"{where}: search.objectives: {objective} reads what observation {name} gives, which the suite does not ask for: name it under "
                    "observations, or take another objective."
                )
    check_names(search, where, methods)
    check_twice(search, where, methods, unlearning)


def check_names(search: Search, where: str, methods: Sequence[Entry]) -> None:
    """Raises SuiteError for a searched name that no method of the suite has, and for the space of one that is searched of none."""
    known = {"all", "lr", *OPTIONS, *(space for name, _ in methods for space in METHODS.get(name).spaces())}
    given = search.hyperparameters
    for name in [given] if isinstance(given, str) else given:
        if name not in known:
            raise SuiteError(
                f"{where}: search.hyperparameters: no method of the suite has {name!r}. {did_you_mean(name, known)}"
            )
    searched = {each for name, _ in methods for each in asked(METHODS.get(name), search.hyperparameters)}
    preset = PRESETS.get(search.preset or "", {})
    told: list[tuple[str, Spaces, Mapping[str, Any]]] = [("spaces", search.spaces, preset.get("spaces", {}))]
    for key, scopes in (("of_tasks", search.of_tasks), ("of_methods", search.of_methods)):
        told += [(f"{key}.{name}", spaces, preset.get(key, {}).get(name, {})) for name, spaces in scopes.items()]
    for key, spaces, of_preset in told:
        for name in sorted(spaces.keys() - searched - of_preset.keys()):
            raise SuiteError(
                f"{where}: search.{key}: {name!r} is searched of no method of the suite; name it in search.hyperparameters. {did_you_mean(name, searched)}"
            )


def check_twice(search: Search, where: str, methods: Sequence[Entry], unlearning: Unlearning) -> None:
    """Raises SuiteError for two entries of one method between which a search may find no difference."""

    def settled(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the search leaves as it is, by name."""
        method = METHODS.get(name)
        free = asked(method, search.hyperparameters) | method.spaces().keys()
        options = {option: getattr(unlearning, option) for option in OPTIONS if option not in free}
        return options | dict(given) | options_of(method, given)

    for number, (name, ours) in enumerate(methods):
        for other, theirs in methods[:number]:
            if other == name:
                one, two = settled(name, ours), settled(name, theirs)
                if not any(one[key] != two[key] for key in one.keys() & two.keys()):
                    raise SuiteError(
                        f"{where}: methods[{number}]: a search may choose the same for both entries of {name}: give one hyperparameter another value in "
                        "each, or tune them in suites of their own."
                    )
