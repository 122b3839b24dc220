"""KLoM: KL divergence of margin distributions, f_U's against the oracles', one example at a time.

The margin, logit of the true class minus log-sum-exp of the others, is the logit-scaled confidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mubench_ray.metrics.group import Part, group_metric

CITES = "Georgiev et al. 2024, arXiv 2410.23232, appendix E.1; Rinberg et al. 2026, arXiv 2602.16400"
BINS = 20
CLIP = 100.0
#: What an empty bin of the oracles counts for; bounds KLoM by -log(1e-5) = 11.5 nats.
FLOOR = 1e-5
#: Models of either side below which a histogram of 20 bins says nothing; the paper has 100.
MODELS = 10
SPLITS = ("forget", "retain", "validation", "test")


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


def _parts() -> dict[str, Part]:
    return {
        f"{split}_{what}": Part("lower", high=-np.log(FLOOR), ideal=0.0) for split in SPLITS for what in ("mean", "p95")
    }


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
) -> Mapping[str, float]:
    """Mean and 95th percentile over examples of KL(f_U's margins || oracles' margins), nats, on each split; 0 is ideal.

    Finite samples never give 0: read it beside the row of method retrain, which is one half of the oracles against the
    other.
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
    return values
