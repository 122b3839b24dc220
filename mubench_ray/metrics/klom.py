"""KLoM: KL divergence of margin distributions, f_U's against the oracles', one example at a time.

The margin, logit of the true class minus log-sum-exp of the others, is the logit-scaled confidence.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric

CITES = "Georgiev et al. 2024, arXiv 2410.23232, appendix E.1; Rinberg et al. 2026, arXiv 2602.16400"
BINS = 20
CLIP = 100.0
#: What an empty bin of the oracles counts for; bounds KLoM by -log(1e-5) = 11.5 nats.
FLOOR = 1e-5
BOUND = -np.log(FLOOR)
#: Models of either side below which a histogram of 20 bins says nothing; the paper has 100.
MODELS = 10
SPLITS = ("forget", "retain", "validation", "test")
#: Ways to part the oracles into those that are compared with and those that stand in f_U's place; the mean is taken.
PARTINGS = 4


def klom_of_examples(unlearned: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """KL(unlearned || oracle) of every example's margins, nats, (N,), from (T, N) and (R, N) with NaN as absent.

    As in the paper's code: margins are clipped to +-100, each example has its own BINS equal bins over both
    samples' common range, and oracle bins are floored at 1e-5 where f_U has mass. Unlike it, the largest margin counts
    too. NaN where either side has fewer than 10 models.
    """
    samples = [np.clip(margins, -CLIP, CLIP) for margins in (unlearned, oracle)]
    seen = [~np.isnan(margins) for margins in samples]
    enough = (seen[0].sum(0) >= MODELS) & (seen[1].sum(0) >= MODELS)
    pooled = np.concatenate(samples)[:, enough]
    if not pooled.size:
        return np.full(unlearned.shape[1], np.nan)
    low, high = np.nanmin(pooled, 0), np.nanmax(pooled, 0)
    width = np.where(high > low, high - low, 1.0) / BINS
    shares = []
    for margins, present in zip(samples, seen):
        margins, present = margins[:, enough], present[:, enough]
        cell = np.minimum(np.floor((np.where(present, margins, low) - low) / width), BINS - 1).astype(int)
        flat = (np.arange(cell.shape[1]) * BINS + cell)[present]
        counts = np.bincount(flat, minlength=cell.shape[1] * BINS).reshape(-1, BINS)
        shares.append(counts / counts.sum(1, keepdims=True))
    p, q = shares
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / np.maximum(q, FLOOR)), 0.0)
    result = np.full(unlearned.shape[1], np.nan)
    # Flooring leaves q's sum a little above 1, which can take an exact zero below it.
    result[enough] = terms.sum(1).clip(0.0)
    return result


def beside_null(
    unlearned: np.ndarray, oracle: np.ndarray, trial_fold: np.ndarray, oracle_fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """KLoM of every example, of f_U and of oracles in its place, both against the same other oracles, (P, N) each.

    KL of histograms of few models is far above 0 between samples of one law, and falls with the numbers of models: only
    equal numbers compare. So oracles of some folds are the reference, half of those that f_U has too and all others; of the
    remaining folds f_U and the oracles, as many of either in every fold and of every example, since models of one fold
    are alike. Of f_U of the oracles' own law both have one expectation. NaN where fewer than 10 models are left on a side,
    for all examples with fewer than 20 folds.
    """
    # What is left out where a fold has more models on one side follows from the models, not from their order.
    (unlearned, trial_fold), (oracle, oracle_fold) = (
        (side[order], fold[order])
        for side, fold in ((unlearned, trial_fold), (oracle, oracle_fold))
        for order in [sorted(range(len(side)), key=lambda row, side=side: zlib.crc32(side[row].tobytes()))]
    )
    rng, found = np.random.default_rng(0), []
    both, alone = np.intersect1d(trial_fold, oracle_fold), np.setdiff1d(oracle_fold, trial_fold)
    moved = max(0, (len(both) - len(alone)) // 2)
    for _ in range(PARTINGS):
        drawn = rng.permutation(both)
        reference, compared = np.concatenate([alone, drawn[:moved]]), drawn[moved:]
        ours, theirs = (np.full(side.shape, np.nan) for side in (unlearned, oracle))
        for fold in compared:
            own, other = trial_fold == fold, oracle_fold == fold
            counts = [np.cumsum(~np.isnan(side), 0) for side in (unlearned[own], oracle[other])]
            least = np.minimum(counts[0][-1], counts[1][-1])
            ours[own] = np.where(counts[0] <= least, unlearned[own], np.nan)
            theirs[other] = np.where(counts[1] <= least, oracle[other], np.nan)
        others = oracle[np.isin(oracle_fold, reference)]
        found.append([klom_of_examples(side, others) for side in (ours, theirs)])
    pairs = np.array(found)
    return pairs[:, 0], pairs[:, 1]


def _parts() -> dict[str, Part]:
    """D_F's alone have an ideal to fail: what unlearning did to the others is its utility."""
    parts = {}
    for split in SPLITS:
        ideal, null = (0.0, "forget_excess_mean") if split == "forget" else (None, None)
        for what in ("mean", "p95"):
            parts[f"{split}_{what}"] = Part("lower", high=BOUND, ideal=ideal, held_by=null)
        parts[f"{split}_excess_mean"] = Part("lower", low=-BOUND, high=BOUND, ideal=ideal)
    return parts


@group_metric("klom", over=("seed",), parts=_parts(), minimum={"trials": MODELS, "oracles": MODELS}, cites=CITES)
def klom(
    forget_confidence: np.ndarray,
    oracle_forget_confidence: np.ndarray,
    retain_confidence: np.ndarray,
    oracle_retain_confidence: np.ndarray,
    validation_confidence: np.ndarray,
    oracle_validation_confidence: np.ndarray,
    test_confidence: np.ndarray,
    oracle_test_confidence: np.ndarray,
    trial_fold: np.ndarray,
    oracle_fold: np.ndarray,
) -> Mapping[str, float]:
    """Mean and 95th percentile over examples of KL(f_U's margins || oracles' margins), nats, on each split; 0 is ideal.

    Finite samples never give 0, and fewer give more: the row of method retrain, one half of the oracles against the other,
    reads more than a perfect method does. ``<split>_excess_mean`` is 0 for that one in expectation: the mean over examples
    minus what oracles read in f_U's place, with as many models (``beside_null``).
    """
    pairs = {
        "forget": (forget_confidence, oracle_forget_confidence),
        "retain": (retain_confidence, oracle_retain_confidence),
        "validation": (validation_confidence, oracle_validation_confidence),
        "test": (test_confidence, oracle_test_confidence),
    }
    values = {}
    for split, (unlearned, oracle) in pairs.items():
        divergence = klom_of_examples(unlearned, oracle)
        divergence = divergence[~np.isnan(divergence)]
        values[f"{split}_mean"] = divergence.mean() if len(divergence) else np.nan
        values[f"{split}_p95"] = np.percentile(divergence, 95) if len(divergence) else np.nan
        excess = np.subtract(*beside_null(unlearned, oracle, trial_fold, oracle_fold))
        excess = excess[~np.isnan(excess)]
        values[f"{split}_excess_mean"] = excess.mean() if len(excess) else np.nan
    return values
