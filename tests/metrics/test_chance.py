"""Null laws against what the attacks themselves read of two samples of one law."""

import numpy as np
import pytest

from mubench_ray.metrics.chance import (
    Chance,
    advantage_by_chance,
    auc_by_chance,
    fitted_accuracy_by_chance,
    off_ideal,
    tpr_by_chance,
)
from mubench_ray.metrics.roc import auc, tpr_at_fpr
from mubench_ray.metrics.u_mia import attack_accuracy


def drawn(attack, members, others, runs=2000):
    rng = np.random.default_rng(0)
    return np.array([attack(rng.gamma(1, 1, members), rng.gamma(1, 1, others)) for _ in range(runs)])


def held(law, values):
    return np.mean((law.low - 1e-9 <= values) & (values <= law.high + 1e-9))


@pytest.mark.parametrize("members, others", [(60, 60), (50, 400), (400, 50)])
def test_an_auc_by_chance(members, others):
    values = drawn(auc, members, others)
    assert held(auc_by_chance(members, others), values) == pytest.approx(0.95, abs=0.015)
    advantage = advantage_by_chance(members, others)
    assert held(advantage, abs(values - 0.5)) == pytest.approx(0.95, abs=0.015)
    assert advantage.mean == pytest.approx(abs(values - 0.5).mean(), rel=0.05)


@pytest.mark.parametrize(
    "members, others, fpr", [(200, 100, 0.01), (100, 199, 0.01), (500, 1000, 0.01), (300, 1500, 0.001)]
)
def test_a_true_positive_rate_by_chance_is_not_the_false_positive_rate(members, others, fpr):
    values = drawn(lambda ours, theirs: tpr_at_fpr(ours, theirs, fpr), members, others, 4000)
    law = tpr_by_chance(fpr)(members, others)
    assert law.mean == (int(others * fpr) + 1) / (others + 1)
    assert values.mean() == pytest.approx(law.mean, rel=0.08)
    assert 0.945 < held(law, values) < 0.995  # few counts: the range holds at least 95 %
    assert np.mean(values > law.high) < 0.035


def test_of_too_few_others_it_is_that_of_as_many_as_it_needs():
    assert tpr_by_chance(0.01)(50, 20) == tpr_by_chance(0.01)(50, 100)


def test_a_fitted_accuracy_by_chance_stays_in_the_range_of_the_widest_law():
    rng, law = np.random.default_rng(1), fitted_accuracy_by_chance(50, 80)
    values = np.array([attack_accuracy(rng.normal(2, 0.5, 50), rng.normal(2, 0.5, 80), seed) for seed in range(30)])
    assert held(law, values) > 0.85 and abs(values.mean() - 0.5) < 0.05
    assert law == fitted_accuracy_by_chance(80, 50)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_distances_about_0_are_taken_for_what_they_are(seeds):
    nothing = Chance(0.0, 0.0, 0.0)
    rng = np.random.default_rng(seeds)
    for law in (rng.normal, lambda size: rng.uniform(-1, 1, size), lambda size: rng.standard_t(3, size)):
        accused = [off_ideal(np.abs(law(size=seeds)).tolist(), 0.0, nothing) for _ in range(2000)]
        assert np.mean(accused) < 0.065
    assert off_ideal([0.3 + seed / 100 for seed in range(seeds)], 0.0, nothing)
    assert not off_ideal([0.3 + seed / 100 for seed in range(seeds)], 0.0, Chance(0.1, 0.0, 0.4))
