"""Distance of f_U's parameters to the retrain's: in all, and layer by layer.

Two retrains that differ only by their seed are far apart as well: read these beside the distance of one retrain to
another.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.base import metric

State = Mapping[str, np.ndarray]


def _pairs(state: State, other: State) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each floating tensor of ``state`` with its counterpart; raises ValueError where names or shapes differ."""
    if state.keys() != other.keys():
        raise ValueError(f"the two networks differ in parameters: {sorted(state.keys() ^ other.keys())[:5]}")
    pairs = {}
    for name, value in state.items():
        value, reference = np.asarray(value), np.asarray(other[name])
        if value.shape != reference.shape:
            raise ValueError(
                f"parameter {name!r} has shape {value.shape} in one network and {reference.shape} in the other"
            )
        if value.dtype.kind == "f":  # counters such as BatchNorm's num_batches_tracked are no parameters
            pairs[name] = (value.astype(np.float64), reference.astype(np.float64))
    return pairs


@metric("l2_distance", direction="lower", cites="Wu et al. 2020, arXiv 2006.14755")
def l2_distance(state: State, retrain_state: State) -> float:
    """Euclidean distance of all floating parameters and buffers of f_U to the retrain's."""
    pairs = _pairs(state, retrain_state).values()
    return float(np.sqrt(sum(np.square(a - b).sum() for a, b in pairs))) if pairs else float("nan")


def layer_distances(state: State, retrain_state: State) -> dict[str, float]:
    """Distance to the retrain of every layer, relative to the norm of the retrain's layer.

    A layer is a parameter's name up to its last dot. NaN where the retrain's layer is all zero.
    """
    squares: dict[str, list[float]] = {}
    for name, (value, reference) in _pairs(state, retrain_state).items():
        layer = squares.setdefault(name.rpartition(".")[0] or name, [0.0, 0.0])
        layer[0] += float(np.square(value - reference).sum())
        layer[1] += float(np.square(reference).sum())
    return {name: float(np.sqrt(gap / norm)) if norm > 0 else float("nan") for name, (gap, norm) in squares.items()}


@metric("layer_distance", direction="lower", cites="Golatkar et al. 2020, arXiv 1911.04933")
def layer_distance(state: State, retrain_state: State) -> float:
    """Mean over layers of the relative distance to the retrain, so that large layers do not drown small ones."""
    distances = [value for value in layer_distances(state, retrain_state).values() if np.isfinite(value)]
    return float(np.mean(distances)) if distances else float("nan")
