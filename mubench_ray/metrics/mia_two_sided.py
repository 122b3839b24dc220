"""A membership attack by the shape of D_F's losses: the likelihood ratio of its distribution and that of unseen examples.

A threshold on the loss, which U-MIA and the AUC go by, sees that the losses of D_F are lower, or higher. It does not see that
they lie in a narrow band, as where an example is pushed until its loss is a typical one, nor that they went to both ends.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric
from mubench_ray.metrics.chance import two_sided_auc_by_chance
from mubench_ray.metrics.non_members import non_members
from mubench_ray.metrics.roc import auc

CITES = "likelihood ratio of a population attack: Ye et al. 2022, arXiv 2111.09679; Zarifzadeh et al. 2024, arXiv 2312.03262"
FOLDS = 10


def shape_auc(members: np.ndarray, others: np.ndarray, seed: int = 0) -> float:
    """AUC of the likelihood ratio that ``members`` (N,) and ``others`` (M,) have by their losses, in [0, 1]; 0.5 is chance.

    Mean over 10 folds, each scored by histograms of the other nine, in bins that hold as many of both together: with nothing
    to tell apart it is 0.5 in expectation, and less by chance alone. NaN with fewer than 10 of either.
    """
    from sklearn.model_selection import StratifiedKFold

    if min(len(members), len(others)) < FOLDS:
        return float("nan")
    losses, member = np.concatenate([members, others]), np.repeat([True, False], [len(members), len(others)])
    bins = max(2, round(2 * min(len(members), len(others)) ** (1 / 3)))
    areas = []
    for fitted, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(losses, member):
        edges = np.quantile(losses[fitted], np.linspace(0, 1, bins + 1)[1:-1], method="lower")
        cell = np.searchsorted(edges, losses)
        ours, theirs = (np.bincount(cell[fitted[member[fitted] == side]], minlength=bins) + 1 for side in (True, False))
        score = np.log(ours / ours.sum()) - np.log(theirs / theirs.sum())
        areas.append(auc(score[cell[held[member[held]]]], score[cell[held[~member[held]]]]))
    return float(np.mean(areas))


@metric(
    "mia_two_sided_auc",
    direction="neither",
    high=1.0,
    ideal=0.5,
    cites=CITES,
    heading="two-sided MIA, AUC",
    remembers="above",
    chance=two_sided_auc_by_chance,
)
def mia_two_sided_auc(
    forget_loss: np.ndarray, test_loss: np.ndarray, seed: float, forgotten_test_loss: np.ndarray | None = None
) -> float:
    """AUC of the likelihood ratio of D_F's losses and D_Test's: sees a narrow band and both ends; 0.5 is chance."""
    return shape_auc(forget_loss, non_members(test_loss, forgotten_test_loss), int(seed))
