"""The tests behind the letters against scipy, by hand, and in simulation; benchmarks/claims/letters.py has the figures of many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma
from scipy.stats import chi2, studentized_range, ttest_rel

from mubench_ray.report.contrasts import (
    ALPHA,
    FREEDOM,
    critical_values,
    dependence,
    holm,
    inverse_trigamma,
    moderated,
    row_variances,
    told_apart,
    worse_than,
)


def test_quantiles_are_those_of_the_studentised_range():
    table = critical_values(5, ALPHA)
    for freedom in (4, 20):
        place = int(np.flatnonzero(freedom == FREEDOM)[0])
        wanted, so_far = {}, 0.0
        for p in range(2, 6):
            level = ALPHA if p >= 4 else 1 - (1 - ALPHA) ** (p / 5)
            so_far = max(so_far, studentized_range.ppf(1 - level, p, freedom) / np.sqrt(2))
            wanted[p] = so_far
        assert table[2:, place] == pytest.approx(list(wanted.values()), rel=2e-3)


def test_two_rows_are_the_paired_t_test():
    """Differences on both sides of the t test's 5% for 5 blocks."""
    noise = np.random.default_rng(0).normal(size=(2, 5))
    for shift in np.linspace(0, 4, 15):
        values = noise + np.array([[0.0], [shift]])
        assert told_apart(values)[0, 1] == (ttest_rel(*values).pvalue < ALPHA)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == [True, False, False, True]  # .05/4, .05/3, .05/2
    assert holm(np.array([0.2, 0.9])).tolist() == [False, False]
    assert holm(np.array([0.001, 0.002])).tolist() == [True, True]


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 40.0])
def test_inverse_of_the_trigamma_function(value):
    assert polygamma(1, inverse_trigamma(value)) == pytest.approx(value)


def test_variances_around_the_blocks_are_unbiased():
    """One row 50 times as noisy as five others, blocks that vary more than either, and a tenth of the values missing."""
    rng = np.random.default_rng(1)
    scale = np.array([50.0, 1, 1, 1, 1, 1]) ** 0.5
    for missing in (0.0, 0.1):
        found = []
        for _ in range(400):
            values = rng.normal(size=(6, 10)) * scale[:, None] + 20 * rng.normal(size=10)
            values[rng.random(values.shape) < missing] = np.nan
            found.append(row_variances(values)[0])
        mean = np.mean(found, axis=0)
        assert mean[0] == pytest.approx(50, rel=0.15) and mean[1:] == pytest.approx(np.ones(5), rel=0.25)


def test_alike_variances_are_pooled_and_a_far_one_stands_alone():
    alike = chi2.ppf(np.linspace(0.02, 0.98, 49), 4) / 4
    variance, freedom = moderated(alike, np.full(49, 4.0))
    assert variance.std() < 0.15 * alike.std() and freedom.min() > 20
    variance, freedom = moderated(np.append(alike, 50.0), np.full(50, 4.0))
    assert (variance[-1], freedom[-1]) == (50.0, 4.0)


def test_blocks_of_one_training_seed_count_less_where_they_move_together():
    rng = np.random.default_rng(3)
    training, draw = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    apart = rng.normal(size=(500, 20))
    together = rng.normal(size=(500, 5))[:, training] + 0.0 * apart
    assert dependence(apart, [training, draw]) < 1.15
    # Four copies of five values: the mean varies as that of 5, four times as much as that of 20; the spread tells (20 - 1) / (20 - 4) of it.
    assert dependence(together, [training]) == pytest.approx(4 * 19 / 16, rel=0.05)
    assert dependence(apart, [np.arange(20), np.zeros(20)]) == 1


def test_equal_rows_are_never_told_apart_and_a_constant_difference_always():
    values = np.tile(np.arange(5.0), (3, 1)) + np.array([[0.0], [0.0], [0.1]])
    assert told_apart(values).tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_two_common_blocks_decide_nothing():
    values = np.array([[0.0, 0.001, np.nan], [9.0, 9.002, 9.0]])
    assert not told_apart(values).any()
    assert not worse_than(values[1:], values[0]).any()


def test_absent_blocks_are_passed_over():
    values = np.random.default_rng(4).normal(0, 0.1, (6, 8)) + 5 * (np.arange(6) > 2)[:, None]
    values[0, 0] = values[1, 3] = values[3, 5] = values[4, 5] = np.nan
    found = told_apart(values)
    assert found[:3, 3:].all() and not found[:3, :3].any() and not found[3:, 3:].any()


def test_only_the_worse_side_of_the_reference_counts():
    values = np.random.default_rng(5).normal(0, 0.1, (3, 5)) + np.array([[-5], [0], [5]])
    assert worse_than(values, np.random.default_rng(6).normal(0, 0.1, 5)).tolist() == [False, False, True]
