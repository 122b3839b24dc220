"""Scaling: D_F performance against the FLOs that unlearning took, over the models of a task (MU-Bench)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric


@group_metric(
    "scaling",
    over=("model", "seed"),
    parts={
        "slope": Part("neither", low=-math.inf),
        "standard_error": Part("neither"),
        "r_squared": Part("neither", high=1.0),
        "models": Part("neither"),
    },
    cites="MU-Bench, arXiv 2406.14796",
)
def scaling(flos: np.ndarray, forget_accuracy: np.ndarray) -> Mapping[str, float]:
    """Slope of D_F accuracy per tenfold FLOs, least squares over trials, with its standard error and R^2.

    ``flos`` (T,), ``forget_accuracy`` (T,). Trials that spent none are left out; NaN below 3 trials or with one figure
    of FLOs for all.
    """
    from scipy.stats import linregress

    kept = (flos > 0) & ~np.isnan(forget_accuracy)
    decades, accuracy = np.log10(flos[kept]), forget_accuracy[kept]
    distinct = len(np.unique(decades))
    if len(decades) < 3 or distinct < 2:
        return {"slope": np.nan, "standard_error": np.nan, "r_squared": np.nan, "models": distinct}
    slope, _, correlation, _, error = np.asarray(linregress(decades, accuracy), float).tolist()
    explained = correlation**2 if np.ptp(accuracy) > 0 else np.nan
    return {"slope": slope, "standard_error": error, "r_squared": explained, "models": distinct}
