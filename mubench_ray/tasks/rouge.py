"""ROUGE-L of generated text."""

from __future__ import annotations

from typing import NamedTuple

from mubench_ray.errors import MubenchError


class RougeL(NamedTuple):
    """Precision, recall and F1 in [0, 1] of the longest common subsequence of words (Lin 2004, ACL W04-1013)."""

    precision: float
    recall: float
    f1: float


def rouge_l(generated: list[str], references: list[str]) -> list[RougeL]:
    """ROUGE-L of every text against its reference, words stemmed, by Google's rouge-score; raises MubenchError where it is not installed."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MubenchError("ROUGE-L needs the package rouge-score: pip install rouge-score.") from error
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [
        RougeL(*scorer.score(reference, text)["rougeL"]) for text, reference in zip(generated, references, strict=True)
    ]
