"""U-MIA: the population membership attack of Deep Unlearn, and Indisc = 1 - |2 MIA - 1|."""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric
from mubench_ray.metrics.chance import fitted_accuracy_by_chance
from mubench_ray.metrics.non_members import non_members

DEEP_UNLEARN = "Deep Unlearn, arXiv 2410.01276; Kurmanji et al. 2023"
FOLDS = 10


def attack_accuracy(members: np.ndarray, others: np.ndarray, seed: int = 0) -> float:
    """Mean accuracy over 10 folds of a logistic regression that tells ``members`` (N,) from ``others`` (M,) by loss.

    Both are shuffled and trimmed to equal size, so 0.5 is chance. Losses beyond 1e4 nats are clipped. NaN with fewer
    than 10 of either. ``seed`` decides which are kept: with one draw for all trials the interval over seeds would not
    know of it, and it is the larger part of the attack's spread where D_F is small (docs/fidelity.md).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    size = min(len(members), len(others))
    if size < FOLDS:
        return float("nan")
    rng = np.random.default_rng(seed)
    losses = np.concatenate([rng.permutation(members)[:size], rng.permutation(others)[:size]]).clip(-1e4, 1e4)
    labels = np.repeat([1, 0], size)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_score(LogisticRegression(), losses[:, None], labels, cv=folds, scoring="accuracy").mean()


@metric(
    "u_mia",
    direction="neither",
    high=1.0,
    ideal=0.5,
    cites=DEEP_UNLEARN,
    version=2,
    remembers="above",
    chance=fitted_accuracy_by_chance,
)
def u_mia(
    forget_loss: np.ndarray, test_loss: np.ndarray, seed: int, forgotten_test_loss: np.ndarray | None = None
) -> float:
    """Attack accuracy on D_F against D_Test, of D_F's classes where it is defined by them; 0.5 is chance."""
    return attack_accuracy(forget_loss, non_members(test_loss, forgotten_test_loss), int(seed))


@metric(
    "u_mia_validation",
    direction="neither",
    high=1.0,
    ideal=0.5,
    cites=DEEP_UNLEARN,
    version=2,
    remembers="above",
    chance=fitted_accuracy_by_chance,
)
def u_mia_validation(
    forget_loss: np.ndarray, validation_loss: np.ndarray, seed: int, forgotten_validation_loss: np.ndarray | None = None
) -> float:
    """Attack accuracy on D_F against D_V, of D_F's classes where it is defined by them; 0.5 is chance."""
    return attack_accuracy(forget_loss, non_members(validation_loss, forgotten_validation_loss), int(seed))


@metric("indisc", direction="higher", high=1.0, ideal=1.0, cites=DEEP_UNLEARN, version=2)
def indisc(u_mia: float) -> float:
    """Indiscernibility of D_F from D_Test, 1 - |2 MIA - 1|."""
    return 1 - abs(2 * u_mia - 1)


@metric("indisc_validation", direction="higher", high=1.0, ideal=1.0, cites=DEEP_UNLEARN, version=2)
def indisc_validation(u_mia_validation: float) -> float:
    """Indiscernibility of D_F from D_V, 1 - |2 MIA - 1|."""
    return 1 - abs(2 * u_mia_validation - 1)
