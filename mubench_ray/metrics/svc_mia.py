"""SalUn's membership attack: a classifier of D_R against D_Test says which share of D_F is not a member.

Not an attack accuracy: 0 for a model that treats D_F as it treats D_R, and the retrain's own value (12.88 % on CIFAR-10
in SalUn's table) is the one to match, not 1. Features are SalUn's five: correctness, the probability of the true label,
the entropy of the prediction, its modified entropy (as Song & Mittal define it), all probabilities at once. As in
SalUn's data loaders D_Test is without the classes that D_F is defined by.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

SALUN = "SalUn: Fan et al. 2024, arXiv 2310.12508; Song & Mittal 2021, arXiv 2003.10595"
#: Values of one feature that are told apart. The time of a support vector machine grows with the square of the examples.
BINS = 1000
#: Neighbours that lie farther apart are told apart, too: between them the kernel exp(-(x - y)^2) changes.
WIDTH = 0.02


def non_member_share(retain: np.ndarray, test: np.ndarray, forget: np.ndarray, seed: int = 0) -> float:
    """Share of ``forget`` (N,) or (N, K) that a classifier of ``retain`` (R, ...) against ``test`` (T, ...) calls unseen.

    A support vector classifier with SalUn's settings: RBF kernel, C = 3, gamma = 1 / K. Of ``retain`` as many as ``test``
    has, drawn with ``seed``; where it has fewer, each counts for more, so that the sides weigh the same. Of one feature
    with more than BINS values, neighbours (of equal numbers) are one weighted point: within .001 of the classifier of all
    points (docs/fidelity.md), in a fiftieth of its time. In [0, 1]; NaN with fewer than 10 of either.
    """
    from sklearn.svm import SVC

    if min(len(retain), len(test)) < 10 or len(forget) == 0:
        return float("nan")
    drawn = np.random.default_rng(seed).permutation(len(retain))[: len(test)]
    sides = [np.asarray(side, float).reshape(len(side), -1) for side in (retain[drawn], test)]
    points, place = merged(np.concatenate(sides))
    # A point weighs C times what it stands for, which is what so many points of C would.
    weights = [
        np.bincount(each, minlength=len(points)) * (len(test) / len(each)) for each in np.split(place, [len(sides[0])])
    ]
    weight, member = np.concatenate(weights), np.repeat([1, 0], len(points))
    there = weight > 0
    attack = SVC(C=3, gamma="auto").fit(np.concatenate([points, points])[there], member[there], weight[there])
    return float(np.mean(attack.predict(np.asarray(forget, float).reshape(len(forget), -1)) == 0))


def merged(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, K) that stand for ``features`` (N, K), and which of them each is, (N,): the distinct ones or, of one
    feature with more than BINS, means of at most N / BINS neighbours each, which lie within WIDTH of each other."""
    points, place = np.unique(features, axis=0, return_inverse=True)
    place = place.reshape(-1)
    if features.shape[1] > 1 or len(points) <= BINS:
        return points, place
    order = np.argsort(features[:, 0], kind="stable")
    ranked, cell = np.arange(len(features)) * BINS // len(features), np.floor(features[order, 0] / WIDTH)
    place = np.empty(len(features), int)
    place[order] = np.cumsum(np.diff(ranked, prepend=0).astype(bool) | np.diff(cell, prepend=cell[0]).astype(bool))
    return (np.bincount(place, features[:, 0]) / np.bincount(place))[:, None], place


def probability(confidence: np.ndarray) -> np.ndarray:
    """The probability of the true label behind a logit-scaled confidence log(p / (1 - p))."""
    return np.exp(-np.logaddexp(0.0, -confidence))


@metric("svc_mia_correctness", direction="neither", high=1.0, cites=SALUN)
def svc_mia_correctness(
    retain_correct: np.ndarray, test_correct: np.ndarray, forget_correct: np.ndarray, seed: float
) -> float:
    """Share of D_F that the attack by correctness calls non-member; the retrain's value is ideal."""
    return non_member_share(retain_correct, test_correct, forget_correct, int(seed))


@metric("svc_mia_confidence", direction="neither", high=1.0, cites=SALUN, version=2)
def svc_mia_confidence(
    retain_confidence: np.ndarray, test_confidence: np.ndarray, forget_confidence: np.ndarray, seed: float
) -> float:
    """Share of D_F that the confidence attack calls non-member (SalUn's MIA column); the retrain's value is ideal."""
    retain, test, forget = map(probability, (retain_confidence, test_confidence, forget_confidence))
    return non_member_share(retain, test, forget, int(seed))


@metric("svc_mia_entropy", direction="neither", high=1.0, cites=SALUN, version=2)
def svc_mia_entropy(
    retain_entropy: np.ndarray, test_entropy: np.ndarray, forget_entropy: np.ndarray, seed: float
) -> float:
    """Share of D_F that the entropy attack calls non-member; the retrain's value is ideal."""
    return non_member_share(retain_entropy, test_entropy, forget_entropy, int(seed))


@metric("svc_mia_modified_entropy", direction="neither", high=1.0, cites=SALUN)
def svc_mia_modified_entropy(
    retain_modified_entropy: np.ndarray,
    test_modified_entropy: np.ndarray,
    forget_modified_entropy: np.ndarray,
    seed: float,
) -> float:
    """Share of D_F that the attack by modified entropy calls non-member; the retrain's value is ideal."""
    return non_member_share(retain_modified_entropy, test_modified_entropy, forget_modified_entropy, int(seed))


@metric("svc_mia_probability", direction="neither", high=1.0, cites=SALUN)
def svc_mia_probability(
    retain_probabilities: np.ndarray, test_probabilities: np.ndarray, forget_probabilities: np.ndarray, seed: float
) -> float:
    """Share of D_F that the attack by the probabilities of all classes, (N, K), calls non-member; the retrain's is ideal."""
    return non_member_share(retain_probabilities, test_probabilities, forget_probabilities, int(seed))
