"""Controls as a gate: a measure of forgetting is trusted where it tells the original apart and the retrain not.

Works on plain numbers: rows of the trials table as dictionaries in, plain data out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mubench_ray.metrics.base import describe_metrics
from mubench_ray.status import USABLE
from mubench_ray.trial import CONTROLS

Verdict = Literal["trusted", "untrusted", "not checkable"]
#: Seeds of either control below which no interval is worth a verdict.
SEEDS = 3
#: Of every interval.
LEVEL = 0.95
#: Of a group metric, which has one value for all seeds: how many times farther from the ideal than the retrain the
#: original has to lie, and the least share of the way to the end of the range.
TOLD_APART = 2.0
LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its Student t interval, of no width where all seeds agree exactly."""

    mean: float
    low: float
    high: float
    seeds: int

    def meets(self, low: float, high: float) -> bool:
        """Whether the interval and [low, high] have a point in common."""
        return self.low <= high and low <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Check:
    """What the controls say of one metric on one cell of a suite, and why; intervals are None where not checkable."""

    metric: str
    verdict: Verdict
    reason: str
    original: Interval | None = None
    retrain: Interval | None = None
    difference: Interval | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready data."""
        return asdict(self)


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Student t interval of the mean over seeds; raises ValueError for fewer than 2 values."""
    from scipy.special import stdtrit

    data = np.asarray(values, float)
    if len(data) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 values, not {len(data)}")
    half = float(stdtrit(len(data) - 1, (1 + LEVEL) / 2) * data.std(ddof=1) / math.sqrt(len(data)))
    mean = float(data.mean())
    return Interval(mean, mean - half, mean + half, len(data))


def check_metric(
    metric: str,
    original: Mapping[Any, float | None],
    retrain: Mapping[Any, float | None],
    *,
    ideal: float,
    tolerance: float = 0.0,
    self_referential: bool = False,
) -> Check:
    """Decide on one metric from its values on ``original`` and ``retrain`` rows, each by seed.

    Trusted: the paired difference original - retrain has an interval over seeds without 0 and the original lies farther
    from ``ideal``, and the retrain's interval meets [ideal - tolerance, ideal + tolerance]. ``tolerance`` is what the
    finite D_F alone may cause: all seeds share one D_F, so it is no part of the spread over seeds. ``self_referential``
    metrics compare with the retrain, so only the original tests them. Not checkable: fewer than 3 seeds with values of
    both.
    """
    seeds = sorted(
        seed for seed in original.keys() & retrain.keys() if _finite(original[seed]) and _finite(retrain[seed])
    )
    if len(seeds) < SEEDS:
        return Check(
            metric,
            "not checkable",
            f"needs original and retrain rows of at least {SEEDS} common seeds, there are {len(seeds)}",
        )
    ours, theirs = np.array([original[s] for s in seeds], float), np.array([retrain[s] for s in seeds], float)
    intervals = mean_interval(ours), mean_interval(theirs), mean_interval(ours - theirs)
    on_original, on_retrain, difference = intervals
    if not on_retrain.meets(ideal - tolerance, ideal + tolerance):
        allowed = f"{ideal:.3g}" + (f" +- {tolerance:.2g}" if tolerance else "")
        return Check(metric, "untrusted", f"the retrain is told apart: {on_retrain}, ideal is {allowed}", *intervals)
    if difference.meets(0.0, 0.0) or abs(on_original.mean - ideal) <= abs(on_retrain.mean - ideal):
        reason = f"the original is not told apart: {on_original}, retrain {on_retrain}, difference {difference}"
        return Check(metric, "untrusted", reason, *intervals)
    reason = f"the original is told apart ({on_original}), the retrain is not ({on_retrain})"
    if self_referential:
        reason = f"the original is told apart ({on_original}); the retrain, its own reference, tests nothing"
    return Check(metric, "trusted", reason, *intervals)


def sampling_tolerance(forget_size: int) -> float:
    """How far the AUC of an attack that knows nothing strays from 0.5 on n = ``forget_size`` members, n others.

    Half width of its normal interval, 1.96 sqrt((2 n + 1) / 12) / n; an accuracy strays a little less.
    """
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2) * math.sqrt((2 * forget_size + 1) / 12) / forget_size)


def chance_tolerance(ideal: float, low: float | None, high: float | None, forget_size: int) -> float:
    """``sampling_tolerance`` on the scale of a metric between ``low`` and ``high`` (None: no end): an AUC strays at most
    0.5 from its ideal, Indisc at most 1."""
    farthest = max(math.inf if end is None else abs(end - ideal) for end in (low, high))
    return sampling_tolerance(forget_size) * farthest / 0.5 if math.isfinite(farthest) else 0.0


def gate(rows: Iterable[Mapping[str, Any]], declared: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """One verdict a (task, model, ratio, sampler, forget seed) and metric, as plain dictionaries.

    ``rows`` are rows of the trials table (all, or only the controls). Checked are all metrics
    that declare an ideal value and have one anywhere. Tolerances follow from ``forget_size``; metrics that compare with the
    retrain itself have none. A seed's value is the mean over rows of one training seed. ``declared`` is the folder's
    ``metrics.json``, which also describes the metrics of plugins; of a folder that tells no ideal values, and without
    it, what is registered here is taken.
    """
    told = {name: entry for name, entry in (declared or {}).items() if isinstance(entry, dict) and "ideal" in entry}
    told = told or describe_metrics()
    cells: dict[tuple, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: {"original": [], "retrain": []})
    for row in rows:
        cell = cells[row["task"], row["model"], row["ratio"], row["sampler"], row["forget_seed"]]
        if row["method"] in cell and row["status"] in USABLE:
            cell[row["method"]].append(row)
    ideals = {name: ideal for name in sorted(told) if (ideal := _number(told[name].get("ideal"))) is not None}
    shown = [row for controls in cells.values() for group in controls.values() for row in group]
    ideals = {name: ideal for name, ideal in ideals.items() if any(row.get(name) is not None for row in shown)}
    verdicts = []
    for (task, model, ratio, sampler, forget_seed), controls in sorted(cells.items(), key=str):
        cell = {"task": task, "model": model, "ratio": ratio, "sampler": sampler, "forget_seed": forget_seed}
        sizes = [row["forget_size"] for group in controls.values() for row in group if row.get("forget_size")]
        for name, ideal in ideals.items():
            low, high = (_number(told[name].get(end)) for end in ("low", "high"))
            own_reference = told[name].get("self_referential") is True
            tolerance = 0.0 if own_reference or not sizes else chance_tolerance(ideal, low, high, min(sizes))
            values = {method: _by_seed(group, name) for method, group in controls.items()}
            check = check_metric(
                name,
                values["original"],
                values["retrain"],
                ideal=ideal,
                tolerance=tolerance,
                self_referential=own_reference,
            )
            verdicts.append(cell | check.as_dict())
    return verdicts


def gate_groups(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One verdict a (task, model, ratio), group metric and part that declares an ideal value, as plain dictionaries.

    ``scores`` are rows of ``scores/*.parquet``. A group has one value, which its own seeds made, and the retrains
    against each other never reach the ideal exactly with finitely many models: their distance to it is the noise floor.
    Trusted: the original lies at least TOLD_APART times as far from the ideal as the retrain, and by at least
    LEAST_SHARE of the way from the ideal to the farther end of the range. Not checkable: no value of either control.
    """
    from mubench_ray.metrics.group import GROUP_METRICS

    found: dict[tuple, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in scores:
        if row["metric"] in GROUP_METRICS and row["method"] in CONTROLS:
            cell = tuple(row.get(name) for name in ("metric", "part", "task", "model", "ratio", "sampler"))
            found[cell][row["method"]] = row
    verdicts = []
    for (metric, part, task, model, ratio, sampler), controls in sorted(found.items(), key=str):
        declared = GROUP_METRICS.get(metric).parts.get(part)
        if declared is None or declared.ideal is None:
            continue
        verdict, reason = _group_verdict(declared, controls)
        cell = {"task": task, "model": model, "ratio": ratio, "sampler": sampler, "forget_seed": None}
        verdicts.append(cell | Check(f"{metric} {part}", verdict, reason).as_dict())
    return verdicts


def _group_verdict(declared: Any, controls: Mapping[str, Mapping[str, Any]]) -> tuple[Verdict, str]:
    values = {name: controls.get(name, {}).get("value") for name in CONTROLS}
    absent = [name for name, value in values.items() if not _finite(value)]
    if absent:
        why = "; ".join(f"{name}: {controls.get(name, {}).get('reason') or 'no row'}" for name in absent)
        return "not checkable", f"needs a value of original and of retrain ({why})"
    ours, floor = (abs(values[name] - declared.ideal) for name in CONTROLS)
    shown = f"original {values['original']:.3g}, retrain {values['retrain']:.3g}, ideal {declared.ideal:.3g}"
    reach = max(declared.high - declared.ideal, declared.ideal - declared.low)
    if ours < TOLD_APART * floor:
        return "untrusted", f"the retrain is told apart from other retrains nearly as far as the original: {shown}"
    if math.isfinite(reach) and ours < LEAST_SHARE * reach:
        return "untrusted", f"the original is not told apart: {shown}"
    return "trusted", f"the original is told apart, the retrain is not: {shown}"


def _by_seed(rows: Iterable[Mapping[str, Any]], name: str) -> dict[Any, float]:
    values: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        if _finite(row.get(name)):
            values[row["training_seed"]].append(row[name])
    return {seed: float(np.mean(each)) for seed, each in values.items()}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
