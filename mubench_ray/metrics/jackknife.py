"""Intervals of group metrics: leave a block of trainings out, compute again, and see how far the value moves.

A group metric is one number of many models, so no spread over seeds is there to read. Models of one training (a fold)
depend on each other, on both sides of an attack, and stay together: blocks are of whole folds, at most BLOCKS, which is
what the metric is computed again for. The jackknife of blocks (Shao & Wu 1989, Annals of Statistics 17(3); Efron & Stein
1981, Annals of Statistics 9(3): on average not too small) takes from them only how far the value spreads, never its
level, since numbers like KLoM depend on how many models there are: the interval is of what other models, as many as
these, would give on the same examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mubench_ray.errors import one_line
from mubench_ray.metrics.chance import LEVEL
from mubench_ray.metrics.group import GroupMetric

#: Most blocks; a block more is a computation more.
BLOCKS = 10
#: Fewer trainings than this say nothing of a spread.
FOLDS = 4
#: From this many trainings on two neighbours stay together, which of a pool of shadow models complement each other.
PAIRED = 16


@dataclass(frozen=True)
class JackknifeInterval:
    """Both ends of a 95% interval and what it is over; without ends, why there is none."""

    low: float | None
    high: float | None
    over: str


def intervals(
    metric: GroupMetric, observed: Mapping[str, Any], values: Mapping[str, float | None], options: Mapping[str, Any]
) -> dict[str, JackknifeInterval]:
    """An interval for every part of ``metric`` that has one of the ``values``, computed from ``observed`` as in
    ``compute_group``: a part's own, where the metric gives it, otherwise the jackknife's."""
    found, ends = {}, {end for part in metric.parts.values() for end in part.interval}
    wanted = [name for name, value in values.items() if value is not None and name not in ends]
    for name in [name for name in wanted if metric.parts[name].interval]:
        low, high = (values[end] for end in metric.parts[name].interval)
        none = "the metric gives none for so few"
        found[name] = JackknifeInterval(low, high, "the metric's own" if None not in (low, high) else none)
    left = [name for name in wanted if name not in found]
    return found | (_jackknife(metric, observed, {name: values[name] for name in left}, options) if left else {})


def _jackknife(
    metric: GroupMetric, observed: Mapping[str, Any], values: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, JackknifeInterval]:
    folds = np.unique(np.concatenate([np.asarray(observed[name], float) for name in ("trial_fold", "oracle_fold")]))
    count = len(folds)
    if count < FOLDS:
        reason = f"fewer than {FOLDS} trainings"
        return {name: JackknifeInterval(None, None, reason) for name in values}
    parts = blocks(folds)
    # What the squares of the moves have to be times, for a mean to get its own variance: (B - 1) / B where blocks take all.
    scale = (count - len(parts[0])) ** 2 / (count * len(parts[0]) * (len(parts) - 1))
    try:
        moved = [metric.compute(**without(metric, observed, part), **options) for part in parts]
    except Exception as error:  # noqa: BLE001 - of a metric of somebody's own, which may not bear fewer models
        return {name: JackknifeInterval(None, None, f"with models left out: {one_line(error)}") for name in values}
    over = f"{count} trainings, by a jackknife of {len(parts)} blocks"
    return {
        name: _interval(metric, name, value, [float(each[name]) for each in moved], scale, over)
        for name, value in values.items()
    }


def _interval(
    metric: GroupMetric, name: str, value: float, moved: list[float], scale: float, over: str
) -> JackknifeInterval:
    from scipy.special import stdtrit

    left_out = np.array(moved)
    if not np.isfinite(left_out).all():
        return JackknifeInterval(None, None, "undefined with models left out")
    if np.ptp(left_out) == 0:  # counts of few, or none of them: no width is no certainty
        return JackknifeInterval(None, None, "does not move with models left out")
    error = np.sqrt(scale * np.square(left_out - left_out.mean()).sum())
    arm = stdtrit(len(moved) - 1, (1 + LEVEL) / 2) * error
    part = metric.parts[name]
    return JackknifeInterval(float(max(value - arm, part.low)), float(min(value + arm, part.high)), over)


def blocks(folds: np.ndarray) -> list[np.ndarray]:
    """Blocks of as many neighbours each, at most BLOCKS, of the sorted distinct ``folds`` (F,); a rest is in none.

    Blocks of unlike size would leave unlike numbers of models, which alone moves a number like KLoM.
    """
    together = 2 if len(folds) >= PAIRED else 1
    units = len(folds) // together
    size = together * -(-units // BLOCKS)
    return [folds[start : start + size] for start in range(0, len(folds) - size + 1, size)]


def without(metric: GroupMetric, observed: Mapping[str, Any], block: np.ndarray) -> dict[str, np.ndarray]:
    """What ``metric`` needs of what was ``observed``, without the models whose fold is in the block."""
    kept = {side: ~np.isin(np.asarray(observed[f"{side}_fold"], float), block) for side in ("trial", "oracle")}
    return {
        need: np.asarray(observed[need], float)[kept["oracle" if need.startswith("oracle_") else "trial"]]
        for need in metric.needs
    }
