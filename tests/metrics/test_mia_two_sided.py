import numpy as np
import pytest

from mubench_ray.metrics import METRICS, compute_all
from mubench_ray.metrics.mia_two_sided import shape_auc
from mubench_ray.metrics.roc import auc


def mean_of(law, seeds=20):
    """Mean over draws, and its standard error."""
    values = [law(np.random.default_rng(seed), seed) for seed in range(seeds)]
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(seeds)


def test_a_narrow_band_is_seen_where_a_threshold_sees_nothing():
    rng = np.random.default_rng(0)
    observed = {"forget_loss": rng.normal(1.0, 0.2, 500), "test_loss": rng.normal(1.0, 1.0, 2000), "seed": 1}
    values = compute_all(observed)
    assert abs(values["mia_auc"] - 0.5) < 0.03 and values["u_mia"] < 0.6
    assert values["mia_two_sided_auc"] > 0.8


@pytest.mark.parametrize("size", [50, 500])
def test_with_nothing_to_tell_apart_it_is_chance(size):
    mean, error = mean_of(lambda rng, seed: shape_auc(rng.gamma(1, 1, size), rng.gamma(1, 1, 2 * size), seed))
    assert abs(mean - 0.5) < 3.5 * error and error < 0.02


def test_it_is_the_best_attack_on_two_gaussians():
    """Equal means and twice the spread: the likelihood ratio goes by |x|, and P(|x| < |y|) is 2 / pi arctan 2. A shift: Phi(1 / sqrt 2)."""
    spread, _ = mean_of(lambda rng, seed: shape_auc(rng.normal(0, 1, 2000), rng.normal(0, 2, 2000), seed), 10)
    assert spread == pytest.approx(2 / np.pi * np.arctan(2), abs=0.02)
    shift, _ = mean_of(lambda rng, seed: shape_auc(rng.normal(0, 1, 2000), rng.normal(1, 1, 2000), seed), 10)
    assert shift == pytest.approx(0.7602, abs=0.015)


def test_it_is_fitted_on_other_examples_than_it_is_scored_on():
    """Scored on what it was fitted on, the ratio finds a leak in noise."""
    rng = np.random.default_rng(1)
    members, others = rng.normal(size=100), rng.normal(size=100)
    edges = np.quantile(np.concatenate([members, others]), np.linspace(0, 1, 10)[1:-1])
    ours, theirs = (np.bincount(np.searchsorted(edges, side), minlength=9) for side in (members, others))
    in_sample = [(ours / np.maximum(theirs, 0.5))[np.searchsorted(edges, side)] for side in (members, others)]
    assert auc(*in_sample) > 0.55 > shape_auc(members, others)


def test_few_alike_and_infinite_losses():
    assert np.isnan(shape_auc(np.ones(9), np.ones(50)))
    assert shape_auc(np.ones(50), np.ones(50)) == 0.5
    assert shape_auc(np.full(50, np.inf), np.linspace(0, 1, 50)) > 0.9


@pytest.mark.parametrize(("members", "others"), [(40, 180), (400, 1000)])
def test_what_it_reads_by_chance_lies_in_its_declared_range(members, others):
    chance = METRICS.get("mia_two_sided_auc").chance(members, others)
    rng = np.random.default_rng(0)
    found = [shape_auc(rng.exponential(size=members), rng.exponential(size=others), seed) for seed in range(60)]
    assert np.mean([chance.low <= each <= chance.high for each in found]) >= 0.93
    assert abs(np.mean(found) - chance.mean) < 0.02
