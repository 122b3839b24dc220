"""How far a model lies from retrains other than its own, for a measure that compares with the retrain.

A row has its distance to one retrain, which for the retrain itself is 0 and tells nothing. Of a measure that follows from
accuracies alone, such as RetDev, the distance of any two models follows from their rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from mubench_ray.metrics.base import METRICS, Metric

_SHARE = re.compile(r"(?:retrain_)?(forget|retain|validation|test)_correct")


def accuracies(name: str) -> list[str]:
    """The metrics that any two models' distance by this one follows from, and nothing else of them; empty where it
    does not. That means are enough is tried on drawn arrays."""
    return _accuracies(METRICS.get(name)) if name in METRICS else []


@cache
def _accuracies(metric: Metric) -> list[str]:
    found = [_SHARE.fullmatch(need) for need in metric.needs]
    splits = [match[1] for match in found if match]
    if not metric.self_referential or len(splits) < len(metric.needs):
        return []
    rng = np.random.default_rng(0)
    drawn = {need: (rng.uniform(size=60) < 0.7).astype(float) for need in metric.needs}
    means = {need: np.array([values.mean()]) for need, values in drawn.items()}
    same = math.isclose(metric.compute(**drawn), metric.compute(**means), abs_tol=1e-9)
    return [f"{split}_accuracy" for split in dict.fromkeys(splits)] if same else []


def distance(name: str, model: Mapping[str, float], retrain: Mapping[str, float]) -> float:
    """The measure of a model of these ``accuracies`` against a retrain of those; NaN where undefined."""
    metric = METRICS.get(name)
    given = {}
    for need in metric.needs:
        whose = retrain if need.startswith("retrain_") else model
        given[need] = np.array([whose[need.removeprefix("retrain_").removesuffix("_correct") + "_accuracy"]])
    return float(metric.compute(**given))


def distances(name: str, models: Sequence[Mapping[str, float]], retrains: Sequence[Mapping[str, float]]) -> np.ndarray:
    """``distance`` of every model to every retrain, (n, m)."""
    return np.array([[distance(name, model, retrain) for retrain in retrains] for model in models], float)
