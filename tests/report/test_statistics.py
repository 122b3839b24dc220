"""Coverage by simulation: what is called 95% has to be 93 to 97%."""

from __future__ import annotations

import numpy as np
import pytest

from mubench_ray.report.grouping import Groups, SeedLevels
from mubench_ray.report.statistics import (
    SKEWNESS_MARGIN,
    bootstrap_interval,
    crossed_interval,
    mean_absolute_difference,
    percentile_arms,
    stretch,
)

SIMULATIONS = 8000


def coverage(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


#: What accuracies and losses over seeds look like: (draw, mean), skewness 0, -0.1, -0.4, -1.4, 0.9, 1.75, 1.4.
SHAPES = {
    "normal": (lambda rng, size: rng.normal(0.7, 0.05, size), 0.7),
    "accuracy": (lambda rng, size: rng.binomial(300, 0.9, size) / 300, 0.9),
    "accuracy near 1": (lambda rng, size: rng.binomial(300, 0.98, size) / 300, 0.98),
    "accuracy that varies near 1": (lambda rng, size: rng.beta(98, 2, size), 0.98),
    "log-normal loss": (lambda rng, size: rng.lognormal(0, 0.3, size), np.exp(0.045)),
    "skewed log-normal loss": (lambda rng, size: rng.lognormal(0, 0.5, size), np.exp(0.125)),
    "gamma loss": (lambda rng, size: rng.gamma(2, 1, size), 2.0),
}


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("shape", SHAPES)
def test_95_percent_means_93_to_97(shape, n):
    draw, truth = SHAPES[shape]
    values = draw(np.random.default_rng(n), (40_000, n))
    assert 0.93 <= coverage(*bootstrap_interval(values), truth) <= 0.97


def test_extreme_skewness_is_short_by_what_the_docstring_says():
    found = [
        coverage(*bootstrap_interval(np.random.default_rng(n).exponential(1, (40_000, n))), 1.0) for n in (3, 5, 10)
    ]
    np.testing.assert_allclose(found, [0.905, 0.907, 0.925], atol=0.004)


def test_the_percentile_bootstrap_would_not_cover():
    """Without the stretch the same interval covers far less: the simulation tells sound from unsound."""
    values = np.random.default_rng(0).normal(size=(SIMULATIONS, 5))
    low, high = bootstrap_interval(values)
    centre, factor = values.mean(axis=1), stretch(5) * (1 + SKEWNESS_MARGIN / np.sqrt(5))
    low, high = centre + (low - centre) / factor, centre + (high - centre) / factor
    assert coverage(low, high, 0.0) < 0.88


def test_nested_seeds_need_the_outer_level():
    """3 levels: 5 training seeds x 2 forget draws of their own x 2 unlearning seeds."""
    rng = np.random.default_rng(1)
    simulations, shape = 8000, (5, 2, 2)
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
    assert coverage(*bootstrap_interval(values.mean(axis=2)), 0.0) < 0.92


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


@pytest.mark.parametrize("n", [5, 10])
def test_quantiles_are_those_of_drawn_resamples(n):
    rng = np.random.default_rng(n)
    values = rng.lognormal(0, 0.5, (100, n))
    means = values[:, rng.integers(n, size=(20_000, n))].mean(axis=2)
    low, high = np.quantile(means, (0.025, 0.975), axis=1)
    below, above = percentile_arms(values, 0.025)
    centre, scale = values.mean(axis=1), values.std(axis=1)
    np.testing.assert_allclose((centre - low) / scale, below / scale, atol=0.2)
    np.testing.assert_allclose((high - centre) / scale, above / scale, atol=0.2)
    assert abs(np.mean((centre - low) / below) - 1) < 0.04 and abs(np.mean((high - centre) / above) - 1) < 0.04


def test_the_longer_arm_is_on_the_side_of_the_tail():
    below, above = percentile_arms(np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]]), 0.025)
    assert above[0] > 1.3 * below[0] > 0
    np.testing.assert_allclose([below[0], above[0]], [above[1], below[1]])


def test_stretch_is_student_over_normal():
    assert stretch(5) == pytest.approx(2.776445 / 1.959964 * np.sqrt(5 / 4), rel=1e-6)


def test_mean_absolute_difference_by_hand():
    assert mean_absolute_difference(np.array([1.0, 4.0, 2.0])) == pytest.approx((3 + 1 + 2) / 3)
    assert np.isnan(mean_absolute_difference(np.array([1.0, np.nan])))
