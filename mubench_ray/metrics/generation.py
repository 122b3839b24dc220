"""What shows only in what a network generates: summaries and biographies against their references, pictures against their captions.

Computed on a random sample of D_F and of D_Test (``judged`` of the task says of how many at most), for tasks that
generate; the sample follows the trial's seed, and its size stands in the row.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

MUBENCH = "MU-Bench, arXiv 2406.14796"
ROUGE = "Lin 2004, ACL W04-1013"
FACTS = "after FActScore: Min et al. 2023, arXiv 2305.14251"
CLIP = "Hessel et al. 2021, arXiv 2104.08718"


@metric("forget_rouge_l", direction="neither", high=1.0, cites=ROUGE, version=2)
def forget_rouge_l(forget_rouge_l: np.ndarray) -> float:
    """ROUGE-L F1 of what is generated for D_F."""
    return forget_rouge_l.mean()


@metric("test_rouge_l", direction="higher", high=1.0, cites=ROUGE, version=2)
def test_rouge_l(test_rouge_l: np.ndarray) -> float:
    """ROUGE-L F1 of what is generated for D_Test."""
    return test_rouge_l.mean()


@metric("forget_rouge_l_recall", direction="neither", high=1.0, cites=ROUGE, version=2)
def forget_rouge_l_recall(forget_rouge_l_recall: np.ndarray) -> float:
    """ROUGE-L recall of what is generated for D_F: how much of the reference is said."""
    return forget_rouge_l_recall.mean()


@metric("test_rouge_l_recall", direction="higher", high=1.0, cites=ROUGE, version=2)
def test_rouge_l_recall(test_rouge_l_recall: np.ndarray) -> float:
    """ROUGE-L recall of what is generated for D_Test."""
    return test_rouge_l_recall.mean()


@metric("forget_factual_overlap", direction="neither", high=1.0, cites=FACTS, version=2)
def forget_factual_overlap(forget_factual_overlap: np.ndarray) -> float:
    """Share of the reference's names, numbers and years that what is generated for D_F says too."""
    return forget_factual_overlap.mean()


@metric("test_factual_overlap", direction="higher", high=1.0, cites=FACTS, version=2)
def test_factual_overlap(test_factual_overlap: np.ndarray) -> float:
    """Share of the reference's names, numbers and years that what is generated for D_Test says too."""
    return test_factual_overlap.mean()


@metric("forget_generated_accuracy", direction="neither", high=1.0, cites=MUBENCH, version=2)
def forget_generated_accuracy(forget_generated_correct: np.ndarray) -> float:
    """Share of pictures drawn for D_F's captions in which a classifier trained on real pictures sees the class."""
    return forget_generated_correct.mean()


@metric("test_generated_accuracy", direction="higher", high=1.0, cites=MUBENCH, version=2)
def test_generated_accuracy(test_generated_correct: np.ndarray) -> float:
    """Share of pictures drawn for D_Test's captions in which a classifier trained on real pictures sees the class."""
    return test_generated_correct.mean()


@metric("forget_clip_score", direction="neither", high=1.0, cites=CLIP, version=2)
def forget_clip_score(forget_clip_score: np.ndarray) -> float:
    """CLIP's cosine between D_F's captions and what is drawn for them, at least 0."""
    return forget_clip_score.mean()


@metric("test_clip_score", direction="higher", high=1.0, cites=CLIP, version=2)
def test_clip_score(test_clip_score: np.ndarray) -> float:
    """CLIP's cosine between D_Test's captions and what is drawn for them, at least 0."""
    return test_clip_score.mean()


@metric("forget_judged", direction="neither", cites=MUBENCH)
def forget_judged(forget_judged: np.ndarray) -> float:
    """Examples of D_F that something was generated for and judged: what the scores of generated texts are means of."""
    return forget_judged.sum()


@metric("test_judged", direction="neither", cites=MUBENCH)
def test_judged(test_judged: np.ndarray) -> float:
    """Examples of D_Test that something was generated for and judged."""
    return test_judged.sum()
