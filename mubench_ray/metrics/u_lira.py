"""U-LiRA: a likelihood-ratio attack on every single example, by shadow models that forgot it or never saw it.

What is done here and not in released code: the statistic is the logit-scaled confidence and not 0/1 correctness; the
models of the fold that is attacked have no part in the Gaussians that it is attacked with; variances are floored, and
pooled where shadow models are few.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric
from mubench_ray.metrics.roc import auc, tpr_at_fpr

CITES = "Hayes et al. 2024, arXiv 2403.01218; Carlini et al. 2022, arXiv 2112.03570; Deep Unlearn, arXiv 2410.01276"
#: Confidences are clipped to this, in nats: beyond it a probability cannot be told from 0 or 1.
CLIP = 100.0
#: Smallest standard deviation of a Gaussian, on the logit scale.
FLOOR = 0.01
#: With fewer shadow models of an example on either side, both sides have one variance each, pooled over all examples
#: (Carlini et al., section VI.C): an example's own on one side beside a pooled one on the other would tell examples apart
#: by how they spread, whatever was forgotten.
PER_EXAMPLE_VARIANCE = 16
PARTS = {
    "accuracy": Part("lower", high=1.0, ideal=0.5),
    "auc": Part("lower", high=1.0, ideal=0.5),
    "advantage": Part("lower", high=0.5, ideal=0.0),
    "tpr_at_1_percent_fpr": Part("lower", high=1.0, ideal=0.01),
    "tpr_at_0_1_percent_fpr": Part("lower", high=1.0, ideal=0.001),
}


def moments(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Mean and variance of each example's observations, (N,), the variance pooled over all examples, and how many each has,
    (N,), from (M, N) with NaN as absent."""
    seen = ~np.isnan(confidence)
    count = seen.sum(0)
    mean = np.where(seen, confidence, 0.0).sum(0) / np.maximum(count, 1)
    squares = np.where(seen, np.square(confidence - mean), 0.0).sum(0)
    pooled = squares.sum() / max((count - 1).clip(0).sum(), 1)
    return mean, squares / np.maximum(count - 1, 1), pooled, count


def log_likelihood_ratio(target: np.ndarray, forgotten: np.ndarray, never_seen: np.ndarray) -> np.ndarray:
    """log N(c; forgotten) - log N(c; never seen) of each target confidence, (K, N).

    NaN where a side has fewer than 2 shadow models. ``target`` is (K, N), ``forgotten`` (U, N) and ``never_seen`` (R,
    N), all logit-scaled confidences with NaN as absent.
    """
    sides = [moments(shadows) for shadows in (forgotten, never_seen)]
    few = np.minimum(*(count for *_, count in sides))
    scores = []
    for mean, own, pooled, _ in sides:
        variance = np.maximum(np.where(few >= PER_EXAMPLE_VARIANCE, own, pooled), FLOOR**2)
        scores.append(-np.log(variance) / 2 - np.square(target - mean) / (2 * variance))
    return np.where(few >= 2, scores[0] - scores[1], np.nan)


def leave_fold_out(
    forgotten: np.ndarray, never_seen: np.ndarray, forgotten_fold: np.ndarray, never_seen_fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all models that forgot and of all that never saw, flat, by shadow models of other folds only.

    A fold is left out of both sides, so that without any leak the scores of the two sides have the same distribution.
    Only folds that both sides have are attacked; the other models serve as shadows.
    """
    forgotten, never_seen = np.clip(forgotten, -CLIP, CLIP), np.clip(never_seen, -CLIP, CLIP)
    ours: list[np.ndarray] = [np.empty(0)]
    theirs: list[np.ndarray] = [np.empty(0)]
    for fold in np.intersect1d(forgotten_fold, never_seen_fold):
        own, other = forgotten_fold == fold, never_seen_fold == fold
        shadows = forgotten[~own], never_seen[~other]
        for targets, scores in ((forgotten[own], ours), (never_seen[other], theirs)):
            ratio = log_likelihood_ratio(targets, *shadows)
            scores.append(ratio[~np.isnan(ratio)])
    return np.concatenate(ours), np.concatenate(theirs)


@group_metric("u_lira", over=("seed",), parts=PARTS, minimum={"folds": 4}, cites=CITES)
def u_lira(
    forget_confidence: np.ndarray, oracle_forget_confidence: np.ndarray, trial_fold: np.ndarray, oracle_fold: np.ndarray
) -> Mapping[str, float]:
    """Can an attacker tell f_U from a model that never saw the example, one example at a time? 0.5 is chance.

    ``forget_confidence`` (T, N), ``oracle_forget_confidence`` (R, N), the folds (T,) and (R,). Accuracy is balanced, at
    likelihood ratio 1; positives are models that forgot the example. The likelihood ratio sees over-forgetting as well
    as remembering.
    """
    ours, theirs = leave_fold_out(forget_confidence, oracle_forget_confidence, trial_fold, oracle_fold)
    if not len(ours) or not len(theirs):
        return dict.fromkeys(PARTS, float("nan"))
    area = auc(ours, theirs)
    accepted = np.mean(ours > 0) + np.mean(ours == 0) / 2
    refused = np.mean(theirs < 0) + np.mean(theirs == 0) / 2
    return {
        "accuracy": (accepted + refused) / 2,
        "auc": area,
        "advantage": abs(area - 0.5),
        "tpr_at_1_percent_fpr": tpr_at_fpr(ours, theirs, 0.01),
        "tpr_at_0_1_percent_fpr": tpr_at_fpr(ours, theirs, 0.001),
    }
