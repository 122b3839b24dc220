import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from mubench_ray.metrics.roc import auc, tpr_at_fpr


def test_auc_of_a_perfect_a_reversed_and_no_leak():
    low, high = np.arange(10.0), np.arange(20.0, 30)
    assert (auc(high, low), auc(low, high), auc(low, low)) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_agrees_with_scikit_learn_with_and_without_ties(decimals):
    rng = np.random.default_rng(decimals)
    positives, negatives = rng.normal(0.4, 1, 130).round(decimals), rng.normal(0, 1, 70).round(decimals)
    expected = roc_auc_score(np.repeat([1, 0], [130, 70]), np.concatenate([positives, negatives]))
    assert auc(positives, negatives) == pytest.approx(expected)


def test_a_planted_rate_at_a_low_false_positive_rate_is_found():
    # 7 % of the positives lie above every negative, the others are like the negatives.
    rng = np.random.default_rng(0)
    negatives = rng.uniform(0, 1, 10_000)
    positives = np.concatenate([np.full(700, 2.0), rng.uniform(0, 1, 9_300)])
    assert tpr_at_fpr(positives, negatives, 0.001) == pytest.approx(0.07 + 0.93 * 0.001, abs=0.002)
    assert tpr_at_fpr(positives, negatives, 0.01) == pytest.approx(0.07 + 0.93 * 0.01, abs=0.005)


@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.37])
def test_agrees_with_the_roc_curve_of_scikit_learn(fpr):
    rng = np.random.default_rng(1)
    positives, negatives = rng.normal(0.5, 1, 400).round(1), rng.normal(0, 1, 300).round(1)
    false, true, _ = roc_curve(
        np.repeat([1, 0], [400, 300]), np.concatenate([positives, negatives]), drop_intermediate=False
    )
    assert tpr_at_fpr(positives, negatives, fpr) == pytest.approx(true[false <= fpr + 1e-12].max())


def test_ties_never_buy_more_false_positives_than_allowed():
    assert tpr_at_fpr(np.ones(100), np.ones(100), 0.01) == 0.0


def test_a_rate_that_so_few_negatives_cannot_show_is_undefined():
    assert np.isnan(tpr_at_fpr(np.ones(5), np.zeros(99), 0.01))
    assert tpr_at_fpr(np.ones(5), np.zeros(100), 0.01) == 1.0
    assert np.isnan(tpr_at_fpr(np.ones(5), np.zeros(999), 0.001))
    assert tpr_at_fpr(np.ones(5), np.zeros(1000), 0.001) == 1.0


def test_empty_and_nan_are_undefined_and_a_senseless_rate_is_refused():
    assert np.isnan(auc(np.array([]), np.ones(3))) and np.isnan(auc(np.array([np.nan]), np.ones(3)))
    assert np.isnan(tpr_at_fpr(np.array([]), np.ones(300), 0.01))
    with pytest.raises(ValueError, match=r"not 1\.5"):
        tpr_at_fpr(np.ones(3), np.ones(3), 1.5)
