"""What a metric is: a pure function of arrays, with its direction, range and citation declared beside it.

The names of a metric's parameters say what it reads, so that adding one touches its own file and nothing else:

- ``<split>_<column>``: an array over the split's examples; split is forget, retain, validation or test, column is loss
  (nats), correct, confidence (logit-scaled), entropy (nats) or label and, of a classifier, modified_entropy (nats) or
  top_probability, that of the predicted class;
- ``forgotten_test_<column>`` and ``forgotten_validation_<column>``: where D_F is defined by classes, what D_Test and D_V
  hold of them; ``test`` and ``validation`` are then what they hold of the others;
- ``retrain_<split>_<column>``: the same of the retrained model of the same seed;
- the name of another metric: its value, computed once;
- ``seconds``, ``flos``, ``retrain_seconds``, ``retrain_flos``: costs; ``ratio``, ``seed``: of the trial;
- ``certificate_epsilon``, ``certificate_delta``: what a certified method guarantees of its run.

A parameter with a default keeps it where the trial has no such array.

Where each of them comes from is declared here too, by ``declare``: what comes from D_Test no search reads, and what comes from the clock no rerun compares.

What an engine does not observe is missing, and so is an array that is empty or all NaN; a metric that needs it is None.
An example of a split of which some array that the metric reads is NaN (f_U gives no number for it) is left out of them
all; the row's marks say of how many. Metrics of many trials at once are in ``group.py``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from mubench_ray.metrics.chance import Law
from mubench_ray.registry import Registry

Direction = Literal["higher", "lower", "neither"]
#: How a report writes a value: as it is, 0.25 as 25 %, as so many times, or seconds as people say them.
Format = Literal["number", "share", "times", "duration"]


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    ``ideal`` is the value that a model which never saw D_F has in expectation. Metrics that declare one are measures of
    forgetting and are held to the controls of ``controls.py``, which ask further on which side of the ideal a model that
    ``remembers`` D_F lies, where that is known before, and what an attack reads by ``chance`` of a model that never saw
    it, from the numbers of members and of others. ``heading`` is what a report calls it, by default its name in words.
    """

    name: str
    compute: Callable[..., float]
    direction: Direction
    low: float
    high: float
    cites: str
    needs: tuple[str, ...]
    #: Read where they are observed.
    optional: tuple[str, ...] = ()
    ideal: float | None = None
    #: Raised where its values change; every row says by which version its own were computed.
    version: int = 1
    heading: str = ""
    format: Format = "number"
    #: The set of which it is the share of examples that are right, so that a report counts these as a sample too.
    counts: str = ""
    remembers: Literal["above", "below"] | None = None
    chance: Law | None = None

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.compute) or "").partition("\n")[0]

    @property
    def self_referential(self) -> bool:
        """Whether it compares with the retrain itself."""
        return any(need.startswith("retrain_") for need in self.needs)

    @property
    def folds(self) -> str | None:
        """The metric whose distance from its ideal this one is, as Indisc is U-MIA's; None of one that folds nothing."""
        inner = METRICS.get(self.needs[0]) if len(self.needs) == 1 and _is_metric(self.needs[0]) else None
        folded = inner is not None and inner.ideal is not None and self.ideal in (self.low, self.high)
        return inner.name if inner is not None and folded else None


METRICS: Registry[Metric] = Registry("metric", "mubench_ray.metrics")
Formula = TypeVar("Formula", bound=Callable[..., float])


def metric(
    name: str,
    *,
    direction: Direction,
    low: float = 0.0,
    high: float = math.inf,
    ideal: float | None = None,
    cites: str,
    version: int = 1,
    heading: str = "",
    format: Format = "number",
    counts: str = "",
    remembers: Literal["above", "below"] | None = None,
    chance: Law | None = None,
) -> Callable[[Formula], Formula]:
    """Function decorator that registers a metric; the function stays an ordinary function."""

    def register(compute: Formula) -> Formula:
        parameters = inspect.signature(compute).parameters.values()
        needs = tuple(p.name for p in parameters if p.default is p.empty)
        optional = tuple(p.name for p in parameters if p.default is not p.empty)
        declared = Metric(
            name,
            compute,
            direction,
            low,
            high,
            cites,
            needs,
            optional,
            ideal,
            version,
            heading,
            format,
            counts,
            remembers,
            chance,
        )
        METRICS.add(name, declared)
        return compute

    return register


def compute_all(observed: Mapping[str, Any]) -> dict[str, float | None]:
    """Every registered metric on what was observed; None where it lacks something or its value is undefined."""
    values: dict[str, float | None] = {}
    for name in METRICS.names():
        compute_one(name, observed, values)
    return values


def compute_one(name: str, observed: Mapping[str, Any], values: dict[str, float | None]) -> float | None:
    """One metric, or None where it does not apply; ``values`` holds and receives what is already computed."""
    if name in values:
        return values[name]
    metric = METRICS.get(name)
    values[name] = None
    given = {}
    for need in metric.needs:
        value = compute_one(need, observed, values) if _is_metric(need) else observed.get(need)
        given[need] = value if is_observed(value) else None
    if all(value is not None for value in given.values()):
        given |= {name: observed[name] for name in metric.optional if is_observed(observed.get(name))}
        value = float(metric.compute(**numbers_alone(given)))
        values[name] = value if math.isfinite(value) else None
    return values[name]


def is_observed(value: Any) -> bool:
    """Whether a metric may read this: something, not empty and not all NaN (an infinite loss is an observation)."""
    if value is None:
        return False
    if isinstance(value, Mapping):
        return bool(value)
    array = np.asarray(value)
    return array.size > 0 and not (array.dtype.kind == "f" and bool(np.isnan(array).all()))


def numbers_alone(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a metric is given, without the examples of which an array of their split is NaN. All of it where nothing is."""
    lost: dict[tuple[str, int], np.ndarray] = {}
    for name, value in given.items():
        if (key := _examples_of(name, value)) is not None and value.dtype.kind == "f":
            lost[key] = lost.get(key, np.zeros(len(value), bool)) | np.isnan(value.reshape(len(value), -1)).any(1)
    kept = {key: ~mask for key, mask in lost.items() if mask.any()}
    keys = {name: _examples_of(name, value) for name, value in given.items()}
    return {name: value[kept[key]] if (key := keys[name]) in kept else value for name, value in given.items()}


#: Which examples an array is of; f_U and what it is compared with are read on the same ones.
_SPLIT = re.compile(r"(?:(?:retrain|incompetent)_)?((?:forgotten_)?(?:validation|test)|forget|retain)_")


def _examples_of(name: str, value: Any) -> tuple[str, int] | None:
    """The split, and how many of its examples, an array is of; None for what is no array of examples."""
    found = _SPLIT.match(name)
    return (found[1], len(value)) if found and isinstance(value, np.ndarray) and value.ndim else None


def reads(name: str) -> set[str]:
    """What a metric cannot do without, itself or through other metrics, that is not a metric."""
    found: set[str] = set()
    for need in METRICS.get(name).needs:
        found |= reads(need) if _is_metric(need) else {need}
    return found


def metric_versions() -> dict[str, int]:
    """The versions above 1."""
    return {name: metric.version for name, metric in METRICS if metric.version != 1}


#: Where an array comes from whose name has this word between underscores, unless ``declare`` says otherwise.
SPLITS = {
    "forget": "D_F", "retain": "D_R", "unseen": "D_R", "validation": "D_V", "extra": "D_V", "test": "D_Test", "shifted": "D_Test",
}  # fmt: skip
_declared: dict[str, frozenset[str]] = {}


def declare(*names: str, of: Iterable[str] = ()) -> None:
    """Say where inputs of these names come from: any of ``D_F``, ``D_R``, ``D_V``, ``D_Test`` and ``clock`` (of the machine, not the trial), or nothing of
    them. What an observation gives that is asked for comes from what the observation ``reads``."""
    _declared.update(dict.fromkeys(names, frozenset(of)))


#: Columns of the trials that follow the clock.
CLOCK = ("seconds", "retrain_seconds", "wall_seconds", "examples_per_second")
declare(*CLOCK, of=["clock"])
declare("flos", "retrain_flos", "ratio", "seed", "relearn_steps")
declare("certificate_epsilon", "certificate_delta")  # what the method says of its own run
declare("state", "retrain_state")  # the weights themselves


def source(need: str) -> frozenset[str] | None:
    """Where an input comes from, as it is declared or as the splits in its name say; None where nothing says it."""
    named = frozenset(SPLITS[word] for word in need.split("_") if word in SPLITS)
    return _declared.get(need, named or None)


def timed(name: str) -> bool:
    """Whether a column of the trials follows the clock, or is a metric that reads what does."""
    return any("clock" in (source(need) or ()) for need in (reads(name) if name in METRICS else (name,)))


def describe_metrics() -> dict[str, dict[str, Any]]:
    """What a report and the controls need of every metric that is registered here, JSON-ready: the run writes it as
    ``metrics.json``, so that who reads the folder loads no code of anybody's."""
    told: dict[str, dict[str, Any]] = {}
    for name, metric in METRICS:
        plain = (
            "heading",
            "format",
            "direction",
            "cites",
            "summary",
            "ideal",
            "self_referential",
            "counts",
            "remembers",
        )
        ends = {"low": metric.low, "high": metric.high}  # JSON knows no infinity: a range without an end says null
        told[name] = {key: getattr(metric, key) for key in plain} | {"timed": timed(name)}
        told[name] |= {end: value if math.isfinite(value) else None for end, value in ends.items()}
    return told


def timed_columns(declared: Mapping[str, Any]) -> set[str]:
    """The columns of a folder's trials that follow the clock, by its ``metrics.json``; older folders do not say it."""
    told = {name for name, entry in declared.items() if isinstance(entry, dict) and entry.get("timed") is True}
    return {*CLOCK, "retrain_time_efficiency"} | told


def _is_metric(need: str) -> bool:
    """Whether a parameter names a metric; of a metric and an array of one name, such as ``test_loss``, the array."""
    return need in METRICS and need not in METRICS.get(need).needs
