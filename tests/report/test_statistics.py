"""Coverage by simulation: what is called 95% has to be 93 to 97%, and at least 93% where a second source is added."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import binom

from mubench_ray.report.grouping import Groups, SeedLevels
from mubench_ray.report.statistics import (
    SKEWNESS_MARGIN,
    bootstrap_interval,
    counted_interval,
    crossed_interval,
    mean_absolute_difference,
    percentile_arms,
    stretch,
    with_examples,
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


def hold(values: np.ndarray) -> float:
    """Coverage of 0 by the intervals of crossed ``values`` (G, T, D)."""
    return coverage(*np.array([crossed_interval(cells) for cells in values]).T, 0.0)


def crossed(rng: np.random.Generator, trainings: int, draws: int, *spreads: float, count: int = 1200) -> np.ndarray:
    """Effects of training seeds, of forget draws and of cells with these standard deviations, (G, T, D)."""
    shapes = ((count, trainings, 1), (count, 1, draws), (count, trainings, draws))
    return sum((spread * rng.normal(size=shape) for spread, shape in zip(spreads, shapes)), np.zeros(()))


def test_crossed_draws_are_not_taken_for_independent():
    """5 training seeds that share 5 forget draws: a draw moves all training seeds together."""
    values = crossed(np.random.default_rng(2), 5, 5, 1.0, 1.0, 0.3)
    assert 0.93 <= hold(values) <= 0.985
    assert coverage(*bootstrap_interval(values.mean(axis=2)), 0.0) < 0.92


@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.3), (0.0, 1.0, 0.3), (1.0, 0.3, 1.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize(("trainings", "draws"), [(3, 3), (10, 3), (5, 5)])
def test_crossed_seeds_of_any_components_are_covered(trainings, draws, spreads):
    assert hold(crossed(np.random.default_rng(trainings), trainings, draws, *spreads, count=800)) >= 0.925


def test_crossed_cells_may_be_absent():
    rng = np.random.default_rng(4)
    values = crossed(rng, 5, 5, 1.0, 1.0, 0.3)
    for cells in values:
        cells.ravel()[rng.choice(25, 4, replace=False)] = np.nan
    assert 0.93 <= hold(values) <= 0.99


def test_variance_components_by_hand():
    """Mean squares 50 (2 degrees of freedom), 8 (2) and 2 (4): the variance of the mean is (50 + 8 - 2) / 9, its degrees
    of freedom 56^2 / (50^2 / 2 + 8^2 / 2 + 2^2 / 4)."""
    rows, columns = np.array([-1.0, 0.0, 1.0]), np.array([1.0, -2.0, 1.0])
    cells = np.outer([1.0, -1.0, 0.0], [1.0, -1.0, 0.0])  # its square sum is 4, so the mean square 1
    values = 5 * np.sqrt(2 / 3) * rows[:, None] + 2 / np.sqrt(3) * np.sqrt(2 / 3) * columns + np.sqrt(2) * cells
    low, high = crossed_interval(values)
    squares = 3 * values.mean(axis=1).var(ddof=1), 3 * values.mean(axis=0).var(ddof=1)
    np.testing.assert_allclose(squares, (50.0, 8.0))
    arm = stdtrit(56**2 / (50**2 / 2 + 8**2 / 2 + 2**2 / 4), 0.975) * np.sqrt(56 / 9)
    assert (high - low) / 2 == pytest.approx(arm * (1 + SKEWNESS_MARGIN / np.sqrt(3)))
    assert (high + low) / 2 == pytest.approx(0, abs=1e-12)


def test_negative_components_are_none():
    """Where rows and columns differ by less than their cells do, only the cells vary: 4 of them, 4 degrees of freedom."""
    cells = np.outer([1.0, -1.0, 0.0], [1.0, -1.0, 0.0])
    low, high = crossed_interval(cells)
    assert (high - low) / 2 == pytest.approx(stdtrit(4, 0.975) / 3 * (1 + SKEWNESS_MARGIN / np.sqrt(3)))


@pytest.mark.parametrize("shape", [(5, 2), (2, 5), (2, 2), (10, 2)])
def test_fewer_than_three_of_either_claim_nothing(shape):
    assert np.isnan(crossed_interval(np.random.default_rng(0).normal(0.94, 0.01, shape))).all()


def test_cells_that_tell_no_components_apart_claim_nothing():
    both, none = np.full((6, 6), np.nan), np.full((3, 3), np.nan)
    both[:3, :3] = both[3:, 3:] = np.arange(9).reshape(3, 3)  # two crossings that share neither seeds nor draws
    none[[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]] = range(5)  # as many cells as seeds and draws have means
    assert np.isnan(crossed_interval(both)).all() and np.isnan(crossed_interval(none)).all()


def agreeing(rng, seeds, examples, right):
    return np.repeat(rng.binomial(examples, right, (SIMULATIONS, 1)) / examples, seeds, axis=1)


def disagreeing(rng, seeds, examples, right):
    return rng.binomial(examples, right, (SIMULATIONS, seeds)) / examples


def of_own_difficulty(rng, seeds, examples, right):
    easy = rng.beta(0.3 * right, 0.3 * (1 - right), (500, 1, examples))
    return (rng.random((500, seeds, examples)) < easy).mean(axis=2)


def of_better_and_worse_seeds(rng, seeds, examples, right):
    wrong = (1 - right) * rng.gamma(4, 0.25, (500, seeds, 1))
    return (rng.random((500, 1, examples)) >= wrong).mean(axis=2)


def adding_as_much(rng, seeds, examples, right):
    """The larger of the two variances would cover 90% at 10 seeds."""
    spread = np.sqrt(seeds * right * (1 - right) / examples)
    return agreeing(rng, seeds, examples, right) + spread * rng.normal(size=(SIMULATIONS, seeds))


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("law", [agreeing, disagreeing, of_own_difficulty, of_better_and_worse_seeds, adding_as_much])
def test_a_share_near_1_of_distinct_examples_is_covered(law, seeds):
    """Of what the examples are a sample of; over the seeds alone it is not."""
    for examples, right in ((300, 0.998), (300, 0.9995), (100, 0.98), (1000, 0.95)):
        values = law(np.random.default_rng(seeds), seeds, examples, right)
        alone = bootstrap_interval(values)
        both = with_examples(values.mean(axis=1), *alone, np.full(len(values), examples))
        assert coverage(*both, right) >= 0.93, (examples, right)
        if law is agreeing:
            assert coverage(*alone, right) < 0.5


def test_seeds_that_agree_leave_the_examples():
    """Clopper and Pearson's ends by the tails that define them."""
    low, high = with_examples(*(np.array([0.99]),) * 3, np.array([300.0]))
    assert binom.sf(296, 300, low[0]) == pytest.approx(0.025) and binom.cdf(297, 300, high[0]) == pytest.approx(0.025)
    low, high = counted_interval(np.array([1.0, 0.0]), np.array([300, 300]))
    np.testing.assert_allclose([low[0], high[1]], [0.025 ** (1 / 300), 1 - 0.025 ** (1 / 300)])
    assert (high[0], low[1]) == (1.0, 0.0)


def test_what_is_no_share_of_known_examples_stays_as_it_was():
    mean, low, high = np.array([0.5, np.nan, 0.5]), np.array([0.4, np.nan, np.nan]), np.array([0.6, np.nan, np.nan])
    np.testing.assert_array_equal(with_examples(mean, low, high, np.full(3, np.nan)), (low, high))
    assert np.isnan(with_examples(mean, low, high, np.full(3, 10.0))[0]).tolist() == [False, True, True]  # nor one seed


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
