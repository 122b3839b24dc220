import math

import numpy as np
import pytest
from scipy.stats import norm

from mubench_ray.metrics.forgetting_quality import (
    CAP,
    bucket_points,
    epsilon_of_example,
    epsilon_of_rates,
    epsilons,
    forgetting_quality,
)


def test_epsilon_of_one_attack_by_hand():
    assert epsilon_of_rates(np.array([0.1]), np.array([0.2]), delta=0.0) == pytest.approx(math.log(0.8 / 0.1))
    assert epsilon_of_rates(np.array([0.2]), np.array([0.1]), delta=0.0) == pytest.approx(math.log(0.8 / 0.1))
    assert epsilon_of_rates(np.array([0.1]), np.array([0.2]), delta=0.3) == pytest.approx(math.log(0.5 / 0.1))


def test_rates_of_zero_are_too_few_samples_unless_both_are():
    assert epsilon_of_rates(np.array([0.0]), np.array([0.5])) == 0.0
    assert epsilon_of_rates(np.array([0.0, 0.5]), np.array([0.0, 0.5])) == CAP
    assert epsilon_of_rates(np.array([]), np.array([])) == 0.0
    assert epsilon_of_rates(np.array([0.6]), np.array([0.6])) == 0.0  # worse than chance: never below 0


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_the_laplace_mechanism_has_the_epsilon_it_is_known_for(epsilon):
    # Outputs of neighbours differ by 1, noise of scale 1 / epsilon: pure epsilon-DP, tight beyond both.
    rng = np.random.default_rng(0)
    estimates = [
        epsilon_of_example(1 + rng.laplace(0, 1 / epsilon, 20_000), rng.laplace(0, 1 / epsilon, 20_000))
        for _ in range(3)
    ]
    # Rates estimated from a handful of samples exceed it; the bulk does not.
    assert np.mean(estimates) >= epsilon - 0.05
    bulk = []
    ours, theirs = 1 + rng.laplace(0, 1 / epsilon, 200_000), rng.laplace(0, 1 / epsilon, 200_000)
    for threshold in np.quantile(theirs, np.linspace(0.05, 0.95, 19)):
        bulk.append(epsilon_of_rates(np.array([np.mean(theirs >= threshold)]), np.array([np.mean(ours < threshold)])))
    assert max(bulk) == pytest.approx(epsilon, abs=0.05)


def test_the_gaussian_mechanism_at_its_delta():
    # mu-GDP: delta(eps) = Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2); the best attack reaches exactly that eps.
    mu, epsilon = 1.0, 1.5
    delta = norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2)
    thresholds = np.linspace(-3, 4, 400)
    fpr, fnr = norm.sf(thresholds), norm.cdf(thresholds - mu)
    assert epsilon_of_rates(fpr, fnr, delta) == pytest.approx(epsilon, abs=1e-3)


def test_a_perfect_leak_is_the_cap_and_no_leak_is_small():
    rng = np.random.default_rng(1)
    assert epsilon_of_example(rng.normal(9, 0.1, 64), rng.normal(0, 0.1, 64)) == CAP
    same = [epsilon_of_example(*rng.normal(0, 1, (2, 64))) for _ in range(50)]
    apart = [epsilon_of_example(rng.normal(2, 1, 64), rng.normal(0, 1, 64)) for _ in range(50)]
    assert np.median(same) < np.median(apart)
    assert max(same) <= math.log(63) + 1e-9


def test_over_forgetting_counts_like_remembering():
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(0, 1, 100), rng.normal(0, 1, 100)
    assert epsilon_of_example(theirs + 2, theirs) == pytest.approx(epsilon_of_example(theirs, theirs + 2))
    # Ranges far beyond the slack of intervals, so that the threshold family decides.
    assert epsilon_of_example(50 * theirs + 99, 50 * theirs) == pytest.approx(
        epsilon_of_example(50 * theirs, 50 * theirs + 99)
    )
    assert epsilon_of_example(-ours, -theirs) == pytest.approx(epsilon_of_example(ours, theirs), abs=1e-9)


def test_degenerate_distributions():
    spread = np.arange(-15, 16) / 3  # holds 2.0, so no attack is perfect
    assert epsilon_of_example(np.full(30, 2.0), spread) == CAP  # peaky: the challenge's rule
    assert epsilon_of_example(np.full(30, 2.0), np.full(30, 2.0)) == 0.0
    assert epsilon_of_example(np.full(30, 2.0), np.full(30, 3.0)) == CAP


def test_intervals_find_what_no_single_threshold_does():
    # Same median, different spread. Tails on both sides belong to the wide one.
    rng = np.random.default_rng(3)
    narrow, wide = rng.uniform(-0.5, 0.5, 100), rng.uniform(-6, 6, 100)
    cuts = np.linspace(-6, 6, 500)
    single = epsilon_of_rates(
        np.array([np.mean(wide >= cut) for cut in cuts]), np.array([np.mean(narrow < cut) for cut in cuts])
    )
    assert epsilon_of_example(narrow, wide) > single


def test_the_challenges_own_grid_gives_nearly_the_same():
    """Thresholds on a grid of 0.01, as the challenge sets them, against ours between observed values."""
    rng = np.random.default_rng(4)
    for _ in range(5):
        ours, theirs = rng.normal(0.8, 1.2, 48), rng.normal(0, 1, 48)
        high, low = (theirs, ours) if np.median(theirs) > np.median(ours) else (ours, theirs)
        pooled = np.concatenate([ours, theirs])
        grid = np.linspace(pooled.min(), pooled.max(), int(np.ceil(np.ptp(pooled) * 100)))
        fpr, fnr = [(low[:, None] >= grid).mean(0)], [(high[:, None] < grid).mean(0)]
        narrow, wide = (ours, theirs) if np.ptp(ours) < np.ptp(theirs) else (theirs, ours)
        width = np.ptp(narrow)
        for right in np.arange(narrow.min() + width - 2, narrow.max() + 2, 0.05):
            left = np.arange(right - width - 2, right - width + 2, 0.05)[None]
            fpr.append(((left <= wide[:, None]) & (wide[:, None] <= right)).mean(0))
            fnr.append(1 - ((left <= narrow[:, None]) & (narrow[:, None] <= right)).mean(0))
        expected = epsilon_of_rates(np.concatenate(fpr).round(12), np.concatenate(fnr).round(12))
        assert epsilon_of_example(ours, theirs) == pytest.approx(expected, abs=0.25)


def test_points_halve_from_bucket_to_bucket_and_end_where_models_do():
    # 512 models as in the challenge: ceil(log 511) = 7, fourteen buckets.
    points = bucket_points(np.array([0.0, 0.49, 0.5, 1.2, 6.9, 7.0, 50.0]), 512)
    assert points.tolist() == [1, 1, 0.5, 0.25, 0.5**13, 0, 0]


def test_examples_seen_by_too_few_models_are_left_out():
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    ours[:3, 1] = np.nan
    assert np.isnan(epsilons(ours, theirs)).tolist() == [False, True, False]


def test_the_score_multiplies_quality_by_both_utilities():
    rng = np.random.default_rng(6)
    shared = rng.normal(0, 1, (20, 30))
    ones = np.ones(20)
    found = forgetting_quality(shared, shared, 0.9 * ones, 1.0 * ones, 0.6 * ones, 0.8 * ones)
    assert found["quality"] == 1.0 and found["median_epsilon"] == 0.0 and found["separable_share"] == 0.0
    assert found["score"] == pytest.approx(0.9 * 0.75)
    leak = forgetting_quality(shared + 40, shared, ones, ones, ones, ones)
    assert leak["quality"] == 0.0 and leak["separable_share"] == 1.0 and leak["median_epsilon"] == CAP
