"""The forgetting quality of the NeurIPS 2023 unlearning challenge: an epsilon for every example of D_F, in buckets.

Attacks on one example see the logit-scaled confidences of U unlearned and R retrained models. Two families, as in the
challenge: at or above a threshold means the class with the larger median; inside an interval, about as wide as the
narrower class, means that class. The best epsilon over all attacks counts. Thresholds stand between observed values,
where rates change, instead of on a grid of 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric

CITES = "Triantafillou et al. 2024, arXiv 2406.09073"
DELTA = 1e-5
CAP = 50.0
BUCKET = 0.5
#: Interval attacks are as wide as the narrower class, give or take this, in nats.
SLACK = 2.0
#: Most thresholds of the interval family; more observed values are thinned to quantiles.
CUTS = 256
#: With fewer models on either side all examples fall in the first buckets whatever was forgotten.
MODELS = 10
PARTS = {
    "quality": Part("higher", high=1.0),
    "median_epsilon": Part("lower", high=CAP, ideal=0.0),
    "separable_share": Part("lower", high=1.0, ideal=0.0),
    "score": Part("higher"),
}


def epsilon_of_rates(fpr: np.ndarray, fnr: np.ndarray, delta: float = DELTA) -> float:
    """Largest max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) / FPR)) over attacks, clipped to [0, 50].

    A perfect attack counts 50. One where a single rate is 0 is a sign of too few samples and is left out, as in the
    challenge; 0 if none is left.
    """
    if np.any((fpr == 0) & (fnr == 0)):
        return CAP
    kept = (fpr > 0) & (fnr > 0)
    fpr, fnr = fpr[kept], fnr[kept]
    if not len(fpr):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.concatenate([(1 - delta - fpr) / fnr, (1 - delta - fnr) / fpr])
        return float(np.clip(np.log(np.max(ratios, initial=1.0)), 0.0, CAP))


def epsilon_of_example(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Epsilon of one example from confidences (U,) and (R,), without NaN, in [0, 50].

    At most about log(min(U, R) - 1), unless the example is told apart for certain: then 50.
    """
    ranges = np.ptp(unlearned), np.ptp(retrained)
    if max(ranges) > 0 and min(ranges) / max(ranges) < 0.01:
        return CAP
    values = np.unique(np.concatenate([unlearned, retrained]))
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])

    high, low = (retrained, unlearned) if np.median(retrained) > np.median(unlearned) else (unlearned, retrained)
    fpr, fnr = [1 - _below(low, cuts)], [_below(high, cuts)]

    narrow, wide = (unlearned, retrained) if ranges[0] < ranges[1] else (retrained, unlearned)
    # An end beyond all values is as good as one at the outermost value.
    ends = cuts.clip(values[0], values[-1])
    if len(cuts) > CUTS:
        kept = np.linspace(0, len(cuts) - 1, CUTS).round().astype(int)
        cuts, ends = cuts[kept], ends[kept]
    left, right = np.triu_indices(len(cuts), 1)
    fits = np.abs(ends[right] - ends[left] - np.ptp(narrow)) <= SLACK
    left, right = left[fits], right[fits]
    inside = [below[right] - below[left] for below in (_below(wide, cuts), _below(narrow, cuts))]
    fpr.append(inside[0])
    fnr.append(1 - inside[1])
    # Counts over counts: rounding keeps 1 - 1 at 0.
    return epsilon_of_rates(np.concatenate(fpr).round(12), np.concatenate(fnr).round(12))


def _below(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Share of ``values`` below each cut."""
    return np.searchsorted(np.sort(values), cuts) / len(values)


def epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Epsilon of every example, (N,), from (U, N) and (R, N), NaN as absent; NaN with fewer than 10 models a side."""
    result = np.full(unlearned.shape[1], np.nan)
    for example in range(unlearned.shape[1]):
        ours, theirs = (side[:, example][~np.isnan(side[:, example])] for side in (unlearned, retrained))
        if min(len(ours), len(theirs)) >= MODELS:
            result[example] = epsilon_of_example(ours, theirs)
    return result


def bucket_points(epsilon: np.ndarray, models: int) -> np.ndarray:
    """H = 2 / 2^n of epsilons (N,) in the n-th bucket of width 0.5; 0 beyond what ``models`` models can measure."""
    buckets = int(math.ceil(math.log(models - 1)) / BUCKET)
    index = np.floor(epsilon / BUCKET)
    return np.where(index < buckets, 0.5**index, 0.0)


@group_metric(
    "forgetting_quality", over=("seed",), parts=PARTS, minimum={"trials": MODELS, "oracles": MODELS}, cites=CITES
)
def forgetting_quality(
    forget_confidence: np.ndarray,
    oracle_forget_confidence: np.ndarray,
    retain_accuracy: np.ndarray,
    retrain_retain_accuracy: np.ndarray,
    test_accuracy: np.ndarray,
    retrain_test_accuracy: np.ndarray,
) -> Mapping[str, float]:
    """Forgetting quality, mean of H(epsilon) over D_F, and the challenge's score: quality x RA / RA_r x TA / TA_r.

    Epsilon is maximised over attacks on the very models it is measured with, so even retrains score below 1 against
    each other: read it beside the row of method retrain. ``separable_share`` is the part of D_F where one attack never
    errs.
    """
    epsilon = epsilons(forget_confidence, oracle_forget_confidence)
    epsilon = epsilon[~np.isnan(epsilon)]
    if not len(epsilon):
        return dict.fromkeys(PARTS, float("nan"))
    quality = float(bucket_points(epsilon, min(len(forget_confidence), len(oracle_forget_confidence))).mean())
    utility = 1.0
    for ours, retrains in ((retain_accuracy, retrain_retain_accuracy), (test_accuracy, retrain_test_accuracy)):
        reference = np.nanmean(retrains)
        utility *= float(np.nanmean(ours) / reference) if reference > 0 else math.nan
    return {
        "quality": quality,
        "median_epsilon": float(np.median(epsilon)),
        "separable_share": float(np.mean(epsilon >= CAP)),
        "score": quality * utility,
    }
