"""A threshold on the loss as membership attack (Yeom et al. 2018), judged by its ROC curve rather than by its accuracy.

An AUC below 0.5 is not a win: a model that over-forgets makes D_F stand out too. The ``_advantage`` metrics are
symmetric about chance. Where D_F is defined by classes it is compared with the test examples of these, and D_R with those
of the others.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric
from mubench_ray.metrics.chance import advantage_by_chance, auc_by_chance, tpr_by_chance
from mubench_ray.metrics.non_members import non_members
from mubench_ray.metrics.roc import auc, tpr_at_fpr

YEOM = "Yeom et al. 2018, arXiv 1709.01604"
CARLINI = "Carlini et al. 2022, arXiv 2112.03570"
ONION = "privacy onion: Carlini et al. 2022, arXiv 2206.10469"


@metric(
    "mia_auc", direction="neither", high=1.0, ideal=0.5, cites=YEOM, version=2, remembers="above", chance=auc_by_chance
)
def mia_auc(forget_loss: np.ndarray, test_loss: np.ndarray, forgotten_test_loss: np.ndarray | None = None) -> float:
    """Probability that an example of D_F has a lower loss than one of D_Test; 0.5 is chance, less is over-forgotten."""
    return auc(-forget_loss, -non_members(test_loss, forgotten_test_loss))


@metric("mia_advantage", direction="lower", high=0.5, ideal=0.0, cites=YEOM, version=2)
def mia_advantage(mia_auc: float) -> float:
    """|AUC - 0.5| of D_F against D_Test: remembering and over-forgetting count alike; 0 is chance."""
    return abs(mia_auc - 0.5)


@metric(
    "mia_advantage_validation",
    direction="lower",
    high=0.5,
    ideal=0.0,
    cites=YEOM,
    version=2,
    chance=advantage_by_chance,
)
def mia_advantage_validation(
    forget_loss: np.ndarray, validation_loss: np.ndarray, forgotten_validation_loss: np.ndarray | None = None
) -> float:
    """|AUC - 0.5| of D_F against D_V, for selection that never sees D_Test."""
    return abs(auc(-forget_loss, -non_members(validation_loss, forgotten_validation_loss)) - 0.5)


@metric(
    "mia_tpr_at_1_percent_fpr",
    direction="neither",
    high=1.0,
    ideal=0.01,
    cites=CARLINI,
    version=2,
    remembers="above",
    chance=tpr_by_chance(0.01),
)
def mia_tpr_at_1_percent_fpr(
    forget_loss: np.ndarray, test_loss: np.ndarray, forgotten_test_loss: np.ndarray | None = None
) -> float:
    """Share of D_F found at 1 % false positives in D_Test; by chance a little more than 0.01; undefined below 100 test examples."""
    return tpr_at_fpr(-forget_loss, -non_members(test_loss, forgotten_test_loss), 0.01)


@metric(
    "mia_tpr_at_0_1_percent_fpr",
    direction="neither",
    high=1.0,
    ideal=0.001,
    cites=CARLINI,
    version=2,
    remembers="above",
    chance=tpr_by_chance(0.001),
)
def mia_tpr_at_0_1_percent_fpr(
    forget_loss: np.ndarray, test_loss: np.ndarray, forgotten_test_loss: np.ndarray | None = None
) -> float:
    """Share of D_F found at 0.1 % false positives in D_Test; by chance a little more than 0.001; undefined below 1,000 test examples."""
    return tpr_at_fpr(-forget_loss, -non_members(test_loss, forgotten_test_loss), 0.001)


@metric("retain_mia_auc", direction="neither", high=1.0, cites=ONION, version=2)
def retain_mia_auc(retain_loss: np.ndarray, test_loss: np.ndarray) -> float:
    """Retain-side privacy: AUC of D_R against D_Test; above 0.5 for any trained model, f_R included."""
    return auc(-retain_loss, -test_loss)


@metric("retain_mia_excess", direction="lower", low=-1.0, high=1.0, cites=ONION, version=2)
def retain_mia_excess(retain_mia_auc: float, retrain_retain_loss: np.ndarray, retrain_test_loss: np.ndarray) -> float:
    """How much more unlearning exposes D_R than retraining: AUC of D_R against D_Test minus f_R's own."""
    return retain_mia_auc - auc(-retrain_retain_loss, -retrain_test_loss)
