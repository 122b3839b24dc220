"""Metrics of many trials at once: attacks on ensembles, capacity over ratios, scaling over models.

A group metric is a pure function too, of stacked arrays. A group holds the trials that are alike in everything but what
``over`` names. The names of its parameters without a default say what it reads (T trials, R oracles, N examples, P
points; NaN: not observed or not a member):

- ``<split>_confidence`` (T, N) logit-scaled confidences of the trials' models and ``oracle_<split>_confidence`` (R, N)
  of retrains on the same examples; for split forget, entry (m, x) exists only if x was in the forget set of model m:
  f_U was asked to forget it, the retrain never saw it;
- ``trial_fold`` (T,), ``oracle_fold`` (R,): the seed of the training that a model comes from. Models of one fold are
  not independent;
- ``curve_<column>`` (T, P): a column of the curves table;
- any other name: that column of the trials table (T,), a per-trial metric included; ``original_<name>`` and
  ``retrain_<name>``: the same column of the original and the retrain that the trial started from and is compared with.

Parameters with a default are options. What is returned is a mapping of the declared ``parts`` to numbers, NaN where
undefined.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.metrics.base import Direction
from mubench_ray.registry import Registry

#: What a group may range over. Seeds are those of training, of the forget draw and of unlearning.
OVER = ("seed", "ratio", "model")
COUNTS = ("trials", "oracles", "folds")


@dataclass(frozen=True)
class Part:
    """One number of a group metric, with its direction and range; ``ideal`` as in ``Metric``.

    ``interval`` names the two parts that are the ends of its 95% interval, where the metric computes one itself; all
    other parts have the one of ``jackknife.py``. ``held_by`` names the part that is held to the controls in its place, where
    its own values compare different numbers of models.
    """

    direction: Direction
    low: float = 0.0
    high: float = math.inf
    ideal: float | None = None
    interval: tuple[str, str] | tuple[()] = ()
    held_by: str | None = None


@dataclass(frozen=True)
class GroupMetric:
    """A registered group metric. ``minimum`` holds how many trials, oracles or folds it needs to say anything."""

    name: str
    compute: Callable[..., Mapping[str, float]]
    over: tuple[str, ...]
    parts: Mapping[str, Part]
    cites: str
    needs: tuple[str, ...]
    options: Mapping[str, Any]
    minimum: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.compute) or "").partition("\n")[0]


GROUP_METRICS: Registry[GroupMetric] = Registry("group_metric", "mubench_ray.metrics")
Formula = TypeVar("Formula", bound=Callable[..., Mapping[str, float]])


def group_metric(
    name: str, *, over: Iterable[str], parts: Mapping[str, Part], cites: str, minimum: Mapping[str, int] | None = None
) -> Callable[[Formula], Formula]:
    """Function decorator that registers a group metric; the function stays an ordinary function."""
    over, minimum = tuple(over), dict(minimum or {})
    if not set(over) <= set(OVER) or not set(minimum) <= set(COUNTS):
        raise MubenchError(
            f"Group metric {name!r}: over takes {OVER} and minimum {COUNTS}, not {over} and {tuple(minimum)}."
        )

    ends = {end for part in parts.values() for end in part.interval}
    if not ends <= parts.keys():
        raise MubenchError(
            f"Group metric {name!r}: an interval ends in {sorted(ends - parts.keys())}, which are no parts."
        )

    def register(compute: Formula) -> Formula:
        parameters = inspect.signature(compute).parameters.values()
        needs = tuple(p.name for p in parameters if p.default is p.empty)
        options = {p.name: p.default for p in parameters if p.default is not p.empty}
        GROUP_METRICS.add(name, GroupMetric(name, compute, over, parts, cites, needs, options, minimum))
        return compute

    return register


def compute_group(
    name: str, observed: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> tuple[dict[str, float | None], str | None]:
    """Every part of one group metric, None where undefined; and the reason, if something it needs is missing."""
    metric = GROUP_METRICS.get(name)
    options = dict(options or {})
    for option in options:
        if option not in metric.options:
            known = f"{did_you_mean(option, metric.options)}" if metric.options else "It has none."
            raise MubenchError(f"Metric {metric.name!r} has no option {option!r}. {known}")
    nothing: dict[str, float | None] = dict.fromkeys(metric.parts)
    counts = count_models(observed)
    for what, least in metric.minimum.items():
        if counts[what] < least:
            return nothing, f"needs at least {least} {what}, there are {counts[what]}"
    missing = [need for need in metric.needs if not _has_numbers(observed.get(need))]
    if missing:
        return nothing, f"not observed: {', '.join(missing)}"
    values = metric.compute(**{need: np.asarray(observed[need], float) for need in metric.needs}, **options)
    return {part: float(values[part]) if math.isfinite(values[part]) else None for part in metric.parts}, None


def count_models(observed: Mapping[str, Any]) -> dict[str, int]:
    """Number of trials and of oracles in the group, and of the folds that both have."""
    trials, oracles = (np.asarray(observed.get(name, []), float) for name in ("trial_fold", "oracle_fold"))
    return {"trials": len(trials), "oracles": len(oracles), "folds": len(np.intersect1d(trials, oracles))}


def _has_numbers(value: Any) -> bool:
    if value is None:
        return False
    array = np.asarray(value, float)
    return array.size > 0 and not np.isnan(array).all()
