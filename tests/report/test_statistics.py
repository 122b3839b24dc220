"""Coverage by simulation: what is called 95% has to be 93 to 97%."""

from __future__ import annotations

import numpy as np
import pytest

from mubench_ray.report.grouping import Groups, SeedLevels
from mubench_ray.report.statistics import (
    bootstrap_interval,
    crossed_interval,
    mean_absolute_difference,
    resamples,
    stretch,
)

SIMULATIONS = 8000


def coverage(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize("n", [3, 5, 10])
def test_covers_normal_values(n):
    values = np.random.default_rng(n).normal(0.7, 0.05, (SIMULATIONS, n))
    assert 0.93 <= coverage(*bootstrap_interval(values), 0.7) <= 0.97


@pytest.mark.parametrize("n", [5, 10])
def test_covers_accuracies_of_a_test_set(n):
    values = np.random.default_rng(n).binomial(300, 0.9, (SIMULATIONS, n)) / 300
    assert 0.93 <= coverage(*bootstrap_interval(values), 0.9) <= 0.97


@pytest.mark.parametrize("n", [5, 10])
def test_loses_little_on_skewed_values(n):
    """Log-normal values, far more skewed than accuracies over seeds: known to be a little short, never by much."""
    values = np.random.default_rng(n).lognormal(0, 0.5, (SIMULATIONS, n))
    assert 0.90 <= coverage(*bootstrap_interval(values), np.exp(0.125)) <= 0.97


def test_the_percentile_bootstrap_would_not_cover():
    """Without the stretch the same interval covers far less: the simulation tells sound from unsound."""
    values = np.random.default_rng(0).normal(size=(SIMULATIONS, 5))
    low, high = bootstrap_interval(values)
    centre = values.mean(axis=1)
    low, high = centre + (low - centre) / stretch(5), centre + (high - centre) / stretch(5)
    assert coverage(low, high, 0.0) < 0.88


def test_nested_seeds_need_the_outer_level():
    """3 levels: 5 training seeds x 2 forget draws of their own x 2 unlearning seeds."""
    rng = np.random.default_rng(1)
    simulations, shape = 3000, (5, 2, 2)
    values = (
        rng.normal(0, 1.0, (simulations, 5, 1, 1))
        + rng.normal(0, 0.5, (simulations, 5, 2, 1))
        + rng.normal(0, 0.5, (simulations, *shape))
    )
    training, draw, seed = (axis.ravel() for axis in np.indices(shape))
    draw = draw + 10 * training
    groups = Groups(np.repeat(np.arange(simulations), 20), np.arange(simulations) * 20)
    levels = SeedLevels(groups, *(np.tile(level, simulations) for level in (training, draw, seed)))
    mean, low, high = levels.estimate(values.ravel())
    assert set(levels.level) == {"training seed"}
    np.testing.assert_allclose(mean, values.mean(axis=(1, 2, 3)))
    assert 0.93 <= coverage(low, high, 0.0) <= 0.97
    assert coverage(*bootstrap_interval(values.reshape(simulations, 20)), 0.0) < 0.80  # as if 20 independent trials


def test_crossed_draws_are_not_taken_for_independent():
    """5 training seeds that share 5 forget draws: a draw moves all training seeds together."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (1500, 5, 1)) + rng.normal(0, 1, (1500, 1, 5)) + rng.normal(0, 0.3, (1500, 5, 5))
    assert 0.93 <= coverage(*crossed_interval(values), 0.0) <= 0.99
    assert coverage(*bootstrap_interval(values.mean(axis=2)), 0.0) < 0.90


def test_a_single_value_has_no_interval():
    low, high = bootstrap_interval(np.array([[0.5, np.nan], [np.nan, np.nan], [0.5, 0.7]]))
    assert np.isnan(low[:2]).all() and np.isnan(high[:2]).all()
    assert low[2] < 0.5 and high[2] > 0.7


def test_absent_values_and_order_do_not_matter():
    low, high = bootstrap_interval(np.array([[0.1, 0.4, np.nan, 0.2], [0.4, 0.2, 0.1, np.nan]]))
    assert low[0] == low[1] and high[0] == high[1]


def test_equal_values_have_an_interval_of_no_width():
    low, high = bootstrap_interval(np.full((1, 3), 0.1))
    assert low[0] <= 0.1 <= high[0]
    assert high[0] - low[0] == pytest.approx(0, abs=1e-12)


def test_resamples_are_all_of_them():
    weights, probability = resamples(3)
    assert len(weights) == 10 and probability.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    spread = (probability * (weights @ [0.0, 1.0, 2.0] - 1) ** 2).sum()
    assert spread == pytest.approx((2 / 3) / 3)  # variance with n in the denominator, over n


def test_stretch_is_student_over_normal():
    assert stretch(5) == pytest.approx(2.776445 / 1.959964 * np.sqrt(5 / 4), rel=1e-6)


def test_mean_absolute_difference_by_hand():
    assert mean_absolute_difference(np.array([1.0, 4.0, 2.0])) == pytest.approx((3 + 1 + 2) / 3)
    assert np.isnan(mean_absolute_difference(np.array([1.0, np.nan])))
