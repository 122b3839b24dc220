"""SalUn's membership attack: a classifier of D_R against D_Test says which share of D_F is not a member.

Not an attack accuracy: 0 for a model that treats D_F as it treats D_R, and the retrain's own value (12.88 % on CIFAR-10
in SalUn's table) is the one to match, not 1. Features are SalUn's: the probability of the true label, or the entropy of
the prediction.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

SALUN = "SalUn: Fan et al. 2024, arXiv 2310.12508; Song & Mittal 2021, arXiv 2003.10595"
#: Training examples of either side. SalUn takes as many as D_Test has, but cost grows with the square for one feature.
SIDE = 400


def non_member_share(retain: np.ndarray, test: np.ndarray, forget: np.ndarray, seed: int = 0) -> float:
    """Share of ``forget`` (N,) that a classifier of ``retain`` (R,) against ``test`` (T,) calls unseen.

    A support vector classifier with SalUn's settings: RBF kernel, C = 3, gamma = 1. Both sides are shuffled and trimmed
    to equal size, at most 400. In [0, 1]; NaN with fewer than 10 of either.
    """
    from sklearn.svm import SVC

    size = min(len(retain), len(test), SIDE)
    if size < 10 or len(forget) == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    features = np.concatenate([rng.permutation(retain)[:size], rng.permutation(test)[:size]])
    attack = SVC(C=3, gamma="auto").fit(features[:, None], np.repeat([1, 0], size))
    return float(np.mean(attack.predict(forget[:, None]) == 0))


def probability(confidence: np.ndarray) -> np.ndarray:
    """The probability of the true label behind a logit-scaled confidence log(p / (1 - p))."""
    return np.exp(-np.logaddexp(0.0, -confidence))


@metric("svc_mia_confidence", direction="neither", high=1.0, cites=SALUN)
def svc_mia_confidence(
    retain_confidence: np.ndarray, test_confidence: np.ndarray, forget_confidence: np.ndarray
) -> float:
    """Share of D_F that the confidence attack calls non-member (SalUn's MIA column); the retrain's value is ideal."""
    retain, test, forget = map(probability, (retain_confidence, test_confidence, forget_confidence))
    return non_member_share(retain, test, forget)


@metric("svc_mia_entropy", direction="neither", high=1.0, cites=SALUN)
def svc_mia_entropy(retain_entropy: np.ndarray, test_entropy: np.ndarray, forget_entropy: np.ndarray) -> float:
    """Share of D_F that the entropy attack calls non-member; the retrain's value is ideal."""
    return non_member_share(retain_entropy, test_entropy, forget_entropy)
