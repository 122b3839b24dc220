"""Controls as a gate: a measure of forgetting is trusted where it tells the original apart and the retrain not.

Works on plain numbers: rows of the trials table as dictionaries in, plain data out.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from mubench_ray.metrics.apart import ENOUGH, SEEDS, Apart, Interval, Side, mean_interval, tell_apart, tell_from
from mubench_ray.metrics.base import METRICS, describe_metrics
from mubench_ray.metrics.chance import Chance, auc_by_chance, off_ideal
from mubench_ray.metrics.distances import accuracies, distance, distances
from mubench_ray.status import is_usable
from mubench_ray.trial import CONTROLS

Verdict = Literal["trusted", "untrusted", "not checkable"]
#: By training seed.
Values = Mapping[Any, float]
#: It has no ideal, but tells whether a cell has anything to forget: "trusted" where it tells original and retrain apart.
FORGOTTEN_BY = "forget_loss"
#: Of a group metric, which has one value for all seeds: how many times farther from the ideal than the retrain the
#: original has to lie, and the least share of the way to the end of the range.
TOLD_APART = 2.0
LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Check:
    """What the controls say of one metric on one cell of a suite, and why.

    ``original`` and ``retrain`` are its values over seeds; ``difference`` is what was tested, with its p value ``p``: of a
    measure that compares with the retrain, of accuracies on D_F. ``smallest_difference``, in the metric's own unit, is what
    would have been seen with a probability of 80 % at as many seeds of that spread, None where they have none. ``floor`` is the mean distance of two
    retrains. None where it does not apply.
    """

    metric: str
    verdict: Verdict
    reason: str
    original: Interval | None = None
    retrain: Interval | None = None
    difference: Interval | None = None
    p: float | None = None
    smallest_difference: float | None = None
    floor: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready data."""
        return asdict(self)


def check_metric(
    metric: str,
    original: Mapping[Any, float | None],
    retrain: Mapping[Any, float | None],
    *,
    ideal: float,
    side: Side | None = None,
    chance: Chance | None = None,
    folded: bool = False,
) -> Check:
    """Decide on a metric of which ``original`` and ``retrain`` rows each have a value of their own, given by seed.

    Trusted: the original is told apart from the retrain (``tell_apart``, on that ``side`` of it) and lies farther from the
    ideal, and the retrain is not told apart from what ``chance`` gives a model that never saw D_F: its interval meets that
    range, or that of the ideal alone where no law is known. ``folded`` metrics are distances from ``ideal``. Not checkable:
    fewer than 3 seeds of either, or fewer than 5 where nothing is told apart.
    """
    ours, theirs = _known(original), _known(retrain)
    if (seeds := min(len(ours), len(theirs))) < SEEDS:
        return _too_few(metric, seeds)
    apart = tell_apart(ours, theirs, side)
    on_original, on_retrain = mean_interval(list(ours.values())), mean_interval(list(theirs.values()))
    chance = chance or Chance(ideal, ideal, ideal)
    found = _tested(Check(metric, "trusted", "", on_original, on_retrain), apart)
    accused = not on_retrain.meets(chance.low, chance.high)
    if off_ideal(list(theirs.values()), ideal, chance) if folded else accused:
        allowed = f"{chance.mean:.3g}" + (f" [{chance.low:.3g}, {chance.high:.3g}]" if chance.low < chance.high else "")
        return replace(
            found, verdict="untrusted", reason=f"the retrain is told apart: {on_retrain}, chance is {allowed}"
        )
    ideal = ideal if folded else chance.mean
    if apart.told and abs(on_original.mean - ideal) > abs(on_retrain.mean - ideal):
        return replace(found, reason=f"the original is told apart ({on_original}), the retrain is not ({on_retrain})")
    how = "not told apart" if not apart.told else "no farther from the ideal than the retrain"
    return _unseen(found, seeds, f"the original is {how}: {on_original}, retrain {on_retrain}")


def check_distance(
    metric: str, original: Mapping[Any, Mapping[str, float]], retrain: Mapping[Any, Mapping[str, float]]
) -> Check:
    """Decide on a metric that compares with the retrain, from the ``accuracies`` that it follows from, given by seed.

    A row compares with one retrain, which for the retrain itself is no comparison, and a distance no longer knows the side
    that the original is known to lie on. So the part that forgetting is to change is tested: trusted where accuracy on D_F
    of the original is told apart from the retrain's, above it. How far originals lie from all retrains and these, ``floor``,
    from each other is told beside it: other parts may drown a difference that is there.
    """
    part = "forget_accuracy"
    ours, theirs = ({seed: of[part] for seed, of in each.items()} for each in (original, retrain))
    if (seeds := min(len(ours), len(theirs))) < SEEDS:
        return _too_few(metric, seeds)
    models, retrains = list(original.values()), list(retrain.values())
    across, within = distances(metric, models, retrains), distances(metric, retrains, retrains)
    within = within[~np.eye(len(retrains), dtype=bool)]
    if not (np.isfinite(across).all() and np.isfinite(within).all()):
        return Check(metric, "not checkable", "undefined for some of the retrains")
    apart = tell_apart(ours, theirs, "above")
    typical = {name: float(np.mean([of[name] for of in retrains])) for name in retrains[0]}
    shifted = typical | {part: typical[part] + apart.smallest}
    smallest = abs(distance(metric, shifted, typical) - distance(metric, typical, typical))
    found = _tested(Check(metric, "trusted", "", mean_interval(across.mean(1))), replace(apart, smallest=smallest))
    found = replace(found, floor=float(within.mean()))
    shown = f"{across.mean():.3g} from the retrains, which lie {within.mean():.3g} from each other"
    if apart.told:
        return replace(found, reason=f"the original is told apart by its accuracy on D_F: {shown}")
    return _unseen(found, seeds, f"the original is not told apart by its accuracy on D_F: {shown}")


def check_paired(
    metric: str, original: Mapping[Any, float | None], *, ideal: float, side: Side | None, ratio: bool = False
) -> Check:
    """Decide on a metric that compares with the retrain and says on which side of it the original lies, from values of
    the original alone: of one law their differences are symmetric about the ideal. Of a ``ratio`` x, whose ideal is 1,
    (x - 1) / (x + 1) is, and is tested."""
    ours = _known(original)
    if len(ours) < SEEDS:
        return _too_few(metric, len(ours))
    on_original = mean_interval(list(ours.values()))
    tested = {seed: (x - 1) / (x + 1) if ratio else x - ideal for seed, x in ours.items()}
    apart = tell_from(tested, 0.0, side)
    if ratio:
        smallest = 2 * apart.smallest / (1 - apart.smallest) if apart.smallest < 1 else math.inf
        apart = replace(apart, smallest=smallest)
    found = _tested(Check(metric, "trusted", "", on_original), apart)
    if apart.told:
        told = f"the original is told apart from its retrains: {on_original}, ideal is {ideal:.3g}"
        return replace(found, reason=told)
    return _unseen(found, len(ours), f"the original is not told apart from its retrains: {on_original}")


def check_forgotten_by(original: Mapping[Any, float | None], retrain: Mapping[Any, float | None]) -> Check:
    """Whether there is anything to forget: whether the loss on D_F of the original lies below the retrain's."""
    ours, theirs = _known(original), _known(retrain)
    if (seeds := min(len(ours), len(theirs))) < SEEDS:
        return _too_few(FORGOTTEN_BY, seeds)
    apart = tell_apart(ours, theirs, "below")
    means = mean_interval(list(ours.values())), mean_interval(list(theirs.values()))
    found = _tested(Check(FORGOTTEN_BY, "trusted", "", *means), apart)
    shown = f"told apart by their loss on D_F: {means[0]}, {means[1]}"
    if apart.told:
        return replace(found, reason=f"original and retrain are {shown}")
    return _unseen(found, seeds, f"original and retrain are not {shown}")


def _tested(check: Check, apart: Apart) -> Check:
    smallest = apart.smallest if math.isfinite(apart.smallest) else None
    return replace(check, difference=apart.difference, p=apart.p, smallest_difference=smallest)


def _too_few(metric: str, seeds: int) -> Check:
    return Check(metric, "not checkable", f"needs at least {SEEDS} seeds of original and retrain, there are {seeds}")


def _unseen(found: Check, seeds: int, reason: str) -> Check:
    """Not trusted; of few seeds that means nothing."""
    smallest = found.smallest_difference
    if smallest is None and found.difference is not None and found.difference.low == found.difference.high:
        reason += f"; all {seeds} seeds agree exactly, which does not say what difference would have been seen"
    else:
        seen = "no difference" if smallest is None else f"{smallest:.3g}"
        reason += f"; at {seeds} seeds {seen} would have been seen with a probability of 80 %"
    return replace(found, verdict="untrusted" if seeds >= ENOUGH else "not checkable", reason=reason)


def gate(rows: Iterable[Mapping[str, Any]], declared: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """One verdict a (task, model, ratio, sampler, forget seed) and metric, as plain dictionaries; of a cell the first is
    that on the loss on D_F (FORGOTTEN_BY).

    ``rows`` are rows of the trials table (all, or only the controls). Checked are all metrics that declare an ideal value
    and have one anywhere. A seed's value is the mean over rows of one training seed. ``set_sizes`` of the rows says of how
    many members and others a metric that declares its law of ``chance`` was computed; where it is missing, others are as
    many as ``forget_size``. ``declared`` is the folder's ``metrics.json``, which also describes the metrics of plugins; of
    a folder that tells no ideal values, and without it, what is registered here is taken.
    """
    here = describe_metrics()
    told = {name: entry for name, entry in (declared or {}).items() if isinstance(entry, dict) and "ideal" in entry}
    told = {name: here.get(name, {}) | entry for name, entry in told.items()} or here
    cells: dict[tuple, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: {name: [] for name in CONTROLS})
    for row in rows:
        cell = cells[row["task"], row["model"], row["ratio"], row["sampler"], row["forget_seed"]]
        if row["method"] in cell and is_usable(row):
            cell[row["method"]].append(row)
    shown = [row for controls in cells.values() for group in controls.values() for row in group]
    names = [name for name in sorted(told) if _number(told[name].get("ideal")) is not None]
    names = [name for name in (FORGOTTEN_BY, *names) if any(row.get(name) is not None for row in shown)]
    told, verdicts = here | told, []
    for (task, model, ratio, sampler, forget_seed), controls in sorted(cells.items(), key=str):
        cell = {"task": task, "model": model, "ratio": ratio, "sampler": sampler, "forget_seed": forget_seed}
        of_cell = _Cell(controls)
        verdicts += [cell | _check(name, told, of_cell).as_dict() for name in names]
    return verdicts


class _Cell:
    """The rows of original and retrain of one cell."""

    def __init__(self, controls: Mapping[str, list[Mapping[str, Any]]]) -> None:
        self._rows = [controls[name] for name in CONTROLS]
        self.sizes: dict[str, int] = {}
        for row in (row for group in self._rows for row in group):
            self.sizes |= {"forget": row["forget_size"]} if row.get("forget_size") else {}
            self.sizes |= json.loads(row.get("set_sizes") or "{}")

    def values(self, name: str) -> list[dict[Any, float]]:
        """Of the original and of the retrain, by training seed."""
        return [_by_seed(rows, name) for rows in self._rows]

    def parts(self, names: list[str]) -> list[dict[Any, dict[str, float]]]:
        """The same of several, of seeds that have them all."""
        found = []
        for rows in self._rows:
            of = {name: _by_seed(rows, name) for name in names}
            seeds = [seed for seed in of[names[0]] if all(seed in values for values in of.values())]
            found.append({seed: {name: values[seed] for name, values in of.items()} for seed in seeds})
        return found


def _check(name: str, told: Mapping[str, Mapping[str, Any]], cell: _Cell) -> Check:
    (original, retrain), entry = cell.values(name), told.get(name, {})
    if name == FORGOTTEN_BY:
        return check_forgotten_by(original, retrain)
    ideal, low, high = (_number(entry.get(key)) for key in ("ideal", "low", "high"))
    assert ideal is not None
    folded, side = ideal in (low, high), _side(entry, ideal, low, high)
    if entry.get("self_referential") is True:
        if "forget_accuracy" in (parts := accuracies(name)):
            return check_distance(name, *cell.parts(parts))
        if folded:
            return Check(
                name, "not checkable", "a distance to the own retrain, from which that to others does not follow"
            )
        ratio = (low, ideal, high) == (0.0, 1.0, None)
        return check_paired(name, original, ideal=ideal, side=side, ratio=ratio)
    inner = METRICS.get(name).folds if name in METRICS else None
    if inner is not None and all(cell.values(inner)) and _number(told[inner].get("ideal")) is not None:
        return _of_fold(name, _check(inner, told, cell), cell)
    chance = _chance(name, entry, cell.sizes)
    return check_metric(name, original, retrain, ideal=ideal, side=side, chance=chance, folded=folded)


def _of_fold(name: str, inner: Check, cell: _Cell) -> Check:
    """The verdict on the metric that this one folds at its ideal is its own: in the fold the side is lost, by which
    original and retrain are told apart, and no model that never saw D_F reaches the ideal in the mean."""
    fold, at = METRICS.get(name), METRICS.get(inner.metric).ideal or 0.0
    means = [mean_interval(list(values.values())) if len(values) > 1 else None for values in cell.values(name)]
    found = replace(inner, metric=name, reason=f"{inner.metric}, which it folds: {inner.reason}")
    found = replace(found, original=means[0], retrain=means[1])
    if (smallest := inner.smallest_difference) is None:
        return found
    return replace(found, smallest_difference=abs(fold.compute(at + smallest) - fold.compute(at)))


def _side(entry: Mapping[str, Any], ideal: float, low: float | None, high: float | None) -> Side | None:
    """On which side of the retrain a model that remembers D_F lies, where that is known before: what a metric declares,
    away from an end of its range, or the worse side."""
    for side in ("above", "below"):
        if entry.get("remembers") == side:
            return side
    if ideal in (low, high):
        return "above" if ideal == low else "below"
    return {"lower": "above", "higher": "below"}.get(str(entry.get("direction")))  # type: ignore[return-value]


def _chance(name: str, entry: Mapping[str, Any], sizes: Mapping[str, int]) -> Chance | None:
    """What a metric reads by chance on sets of these sizes, of a plugin's between two ends as an AUC would on its scale;
    None where nothing is known."""
    members = sizes.get("forget")
    if not members:
        return None
    metric = METRICS.get(name) if name in METRICS else None
    if metric is not None and metric.chance is not None:
        held_out = next((split for split in ("validation", "test") if f"{split}_loss" in metric.needs), "test")
        # Where D_F is defined by classes, the others are those of the same classes.
        return metric.chance(members, sizes.get(f"forgotten_{held_out}") or sizes.get(held_out) or members)
    ideal, low, high = (_number(entry.get(key)) for key in ("ideal", "low", "high"))
    if ideal is None or low is None or high is None:
        return None
    reach = max(high - ideal, ideal - low)
    half = (auc_by_chance(members, members).high - 0.5) * reach / 0.5
    return Chance(ideal, ideal - half, ideal + half)


def gate_groups(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One verdict a (task, model, ratio), group metric and part that declares an ideal value, as plain dictionaries.

    ``scores`` are rows of ``scores/*.parquet``. A group has one value, which its own seeds made, and the retrains
    against each other never reach the ideal exactly with finitely many models: their distance to it is the noise floor.
    Trusted: the original lies at least TOLD_APART times as far from the ideal as the retrain, and by at least
    LEAST_SHARE of the way from the ideal to the farther end of the range; a part that is ``held_by`` another, by that one's
    values where both controls have them; and, of scores with intervals, the two differ by more than these allow. Not
    checkable: no value of either control.
    """
    from mubench_ray.metrics.group import GROUP_METRICS

    found: dict[tuple, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in scores:
        if row["metric"] in GROUP_METRICS and row["method"] in CONTROLS:
            cell = tuple(row.get(name) for name in ("metric", "part", "task", "model", "ratio", "sampler"))
            found[cell][row["method"]] = row
    verdicts = []
    for (metric, part, task, model, ratio, sampler), controls in sorted(found.items(), key=str):
        parts = GROUP_METRICS.get(metric).parts
        declared = parts.get(part)
        if declared is None or declared.ideal is None:
            continue
        if declared.held_by is not None:
            instead = found.get((metric, declared.held_by, task, model, ratio, sampler), {})
            if all(_finite(instead.get(name, {}).get("value")) for name in CONTROLS):
                declared, controls = parts[declared.held_by], instead
        verdict, reason = _group_verdict(declared, controls)
        cell = {"task": task, "model": model, "ratio": ratio, "sampler": sampler, "forget_seed": None}
        verdicts.append(cell | Check(f"{metric} {part}", verdict, reason).as_dict())
    return verdicts


def _group_verdict(declared: Any, controls: Mapping[str, Mapping[str, Any]]) -> tuple[Verdict, str]:
    values = _known({name: controls.get(name, {}).get("value") for name in CONTROLS})
    absent = [name for name in CONTROLS if name not in values]
    if absent:
        why = "; ".join(f"{name}: {controls.get(name, {}).get('reason') or 'no row'}" for name in absent)
        return "not checkable", f"needs a value of original and of retrain ({why})"
    ours, floor = (abs(values[name] - declared.ideal) for name in CONTROLS)
    halves = [half for name in CONTROLS if (half := _half(controls[name])) is not None]
    shown = f"original {values['original']:.3g}, retrain {values['retrain']:.3g}, ideal {declared.ideal:.3g}"
    reach = max(declared.high - declared.ideal, declared.ideal - declared.low)
    if ours < TOLD_APART * floor:
        return "untrusted", f"the retrain is told apart from other retrains nearly as far as the original: {shown}"
    if math.isfinite(reach) and ours < LEAST_SHARE * reach:
        return "untrusted", f"the original is not told apart: {shown}"
    if len(halves) == len(CONTROLS) and abs(values["original"] - values["retrain"]) <= math.hypot(*halves):
        return "untrusted", f"the original is not told apart, by the intervals of both: {shown}"
    return "trusted", f"the original is told apart, the retrain is not: {shown}"


def _half(row: Mapping[str, Any]) -> float | None:
    """Half the width of a score's interval; None where it has none."""
    low, high = row.get("low"), row.get("high")
    return None if low is None or high is None or not math.isfinite(high - low) else (high - low) / 2


def _by_seed(rows: Iterable[Mapping[str, Any]], name: str) -> dict[Any, float]:
    values: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        if _finite(row.get(name)):
            values[row["training_seed"]].append(row[name])
    return {seed: float(np.mean(each)) for seed, each in values.items()}


def _known(values: Mapping[Any, float | None]) -> dict[Any, float]:
    return {seed: float(value) for seed, value in values.items() if value is not None and math.isfinite(value)}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
