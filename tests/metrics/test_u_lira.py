import numpy as np
import pytest
from scipy.stats import norm

from mubench_ray.metrics.roc import auc
from mubench_ray.metrics.u_lira import FLOOR, leave_fold_out, log_likelihood_ratio, moments, u_lira


def attack(forgotten, never_seen):
    return u_lira(forgotten, never_seen, np.arange(len(forgotten)), np.arange(len(never_seen)))


def noise(seed, models=8, examples=600):
    """Both sides from one distribution, each example with its own mean and spread: nothing to find."""
    rng = np.random.default_rng(seed)
    mean, spread = rng.normal(2, 4, examples), rng.uniform(0.3, 3, examples)
    return [rng.normal(mean, spread, (models, examples)) for _ in range(2)]


def test_a_perfect_leak_is_certain():
    rng = np.random.default_rng(0)
    found = attack(rng.normal(6, 0.3, (8, 200)), rng.normal(0, 0.3, (8, 200)))
    assert found["auc"] == 1.0 and found["accuracy"] == 1.0
    assert found["tpr_at_1_percent_fpr"] == 1.0 and found["tpr_at_0_1_percent_fpr"] == 1.0


@pytest.mark.parametrize("models", [4, 5, 8, 20])
def test_no_leak_is_chance_with_few_and_many_models(models):
    found = [attack(*noise(seed, models, 4000 // models)) for seed in range(10)]
    for part, chance in {"auc": 0.5, "accuracy": 0.5, "tpr_at_1_percent_fpr": 0.01}.items():
        values = np.array([each[part] for each in found])
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - chance) < 4 * error, part
        assert error < 0.01


def test_leaving_out_really_leaves_out():
    """On pure noise the attack that was fitted on its own targets finds a leak that is not there."""
    forgotten, never_seen = noise(1)
    in_sample = auc(
        log_likelihood_ratio(forgotten, forgotten, never_seen).ravel(),
        log_likelihood_ratio(never_seen, forgotten, never_seen).ravel(),
    )
    ours, theirs = leave_fold_out(forgotten, never_seen, np.arange(8), np.arange(8))
    assert in_sample > 0.57
    assert auc(ours, theirs) == pytest.approx(0.5, abs=0.02)


def test_the_scores_of_a_fold_do_not_depend_on_that_folds_other_models():
    forgotten, never_seen = noise(2, models=6, examples=5)
    folds = np.array([0, 0, 1, 1, 2, 2])
    before = leave_fold_out(forgotten, never_seen, folds, folds)[0].reshape(6, 5)
    forgotten[0] += 50.0  # its sibling in the fold must not notice, the models of other folds do
    after = leave_fold_out(forgotten, never_seen, folds, folds)[0].reshape(6, 5)
    assert np.array_equal(before[1], after[1])
    assert not np.allclose(before[2:], after[2:])


def test_siblings_of_one_training_would_leak_if_each_model_were_its_own_fold():
    # Four unlearning runs of each of five trainings: what is shared is the training, and there is no leak.
    rng = np.random.default_rng(3)
    folds = np.repeat(np.arange(5), 4)
    sides = []
    for _ in range(2):
        sides.append((rng.normal(0, 1, (5, 800)) + 3)[folds] + rng.normal(0, 0.1, (20, 800)))
    single = u_lira(*sides, np.arange(20), np.arange(20))["auc"]
    grouped = u_lira(*sides, folds, folds)["auc"]
    assert single > 0.6
    assert grouped == pytest.approx(0.5, abs=0.04)


def test_over_forgetting_is_found_like_remembering():
    forgotten, never_seen = noise(4, models=16, examples=300)
    up, down = attack(forgotten + 4, never_seen), attack(forgotten - 4, never_seen)
    assert up["auc"] > 0.8 and down["auc"] == pytest.approx(up["auc"], abs=0.03)
    assert down["advantage"] == pytest.approx(down["auc"] - 0.5)


def test_a_planted_rate_at_low_false_positives():
    # 20 % of the examples are remembered beyond doubt, the others perfectly forgotten.
    rng = np.random.default_rng(5)
    forgotten, never_seen = rng.normal(0, 1, (20, 500)), rng.normal(0, 1, (20, 500))
    forgotten[:, :100] += 30
    found = attack(forgotten, never_seen)
    assert found["tpr_at_1_percent_fpr"] == pytest.approx(0.2, abs=0.02)
    assert found["tpr_at_0_1_percent_fpr"] == pytest.approx(0.2, abs=0.01)


def test_the_likelihood_ratio_is_that_of_two_gaussians():
    rng = np.random.default_rng(6)
    forgotten, never_seen, target = rng.normal(1, 2, (40, 3)), rng.normal(0, 1, (30, 3)), rng.normal(0, 1, (2, 3))
    expected = norm.logpdf(target, forgotten.mean(0), forgotten.std(0, ddof=1))
    expected -= norm.logpdf(target, never_seen.mean(0), never_seen.std(0, ddof=1))
    assert log_likelihood_ratio(target, forgotten, never_seen) == pytest.approx(expected)


def test_a_pooled_variance_is_that_of_all_deviations():
    mean, own, pooled, count = moments(np.array([[1.0, 10.0], [3.0, 10.0], [2.0, 10.0]]))
    assert mean.tolist() == [2.0, 10.0] and count.tolist() == [3, 3] and own == pytest.approx([1.0, 0.0])
    assert pooled == pytest.approx(2 / 4)  # two squares over four degrees of freedom


@pytest.mark.parametrize(
    "forgotten, never_seen, pooled", [(40, 40, False), (5, 40, True), (40, 5, True), (5, 5, True), (16, 15, True)]
)
def test_few_models_on_either_side_pool_the_variance_of_both(forgotten, never_seen, pooled):
    rng = np.random.default_rng(9)
    spread = np.linspace(0.3, 3, 50)
    sides = [rng.normal(0, spread, (models, 50)) for models in (forgotten, never_seen)]
    target = rng.normal(0, spread, (3, 50))
    own = [side.std(0, ddof=1) for side in sides]
    spreads = [np.full(50, np.sqrt((each**2).mean())) for each in own] if pooled else own
    expected = np.subtract(*(norm.logpdf(target, side.mean(0), each) for side, each in zip(sides, spreads)))
    assert log_likelihood_ratio(target, *sides) == pytest.approx(expected)


def test_variances_are_floored():
    alike = np.full((20, 2), 7.0)
    target = np.full((1, 2), 7.0 + FLOOR)
    expected = norm.logpdf(FLOOR, 0, FLOOR) - norm.logpdf(FLOOR + 1, 0, FLOOR)
    assert log_likelihood_ratio(target, alike, alike - 1) == pytest.approx(np.full((1, 2), expected))


@pytest.mark.parametrize("shift, ratio", [(1.0, 1.0), (0.0, 2.0)])
def test_with_many_models_it_is_the_best_attack_on_two_gaussians(shift, ratio):
    """Equal variances: AUC Phi(d / sqrt 2), accuracy Phi(d / 2). Equal means, r times the spread: the densities cross at z."""
    rng = np.random.default_rng(10)
    mean, spread = rng.normal(2, 4, 150), rng.uniform(0.3, 3, 150)
    found = attack(rng.normal(mean + shift * spread, spread, (64, 150)), rng.normal(mean, ratio * spread, (64, 150)))
    if shift:
        area, accuracy = norm.cdf(shift / np.sqrt(2)), norm.cdf(shift / 2)
    else:
        z = np.sqrt(2 * np.log(ratio) / (1 - ratio**-2))
        area, accuracy = 2 / np.pi * np.arctan(ratio), 0.5 + norm.cdf(z) - norm.cdf(z / ratio)
    assert found["auc"] == pytest.approx(area, abs=0.02)
    assert found["accuracy"] == pytest.approx(accuracy, abs=0.02)


def test_unequal_numbers_of_models_lose_nothing_to_examples_of_unlike_spread():
    """8 models that forgot and 64 that never saw: with variances of their own on one side alone the attack finds .712."""
    rng = np.random.default_rng(11)
    mean, spread = rng.normal(2, 4, 4000), rng.uniform(0.3, 3, 4000)
    forgotten, never_seen = rng.normal(mean + spread, spread, (8, 4000)), rng.normal(mean, spread, (64, 4000))
    sides = [rng.normal(mean + spread, spread, (1, 4000)), rng.normal(mean, spread, (1, 4000))]
    ours, theirs = (log_likelihood_ratio(side, forgotten, never_seen).ravel() for side in sides)
    assert auc(ours, theirs) > 0.72


def test_models_that_all_agree_are_no_leak_and_no_division_by_zero():
    with np.errstate(all="raise"):
        found = attack(np.full((6, 200), 3.0), np.full((6, 200), 3.0))
        assert found["auc"] == 0.5 and found["accuracy"] == 0.5
        assert attack(np.full((6, 200), 3.0), np.full((6, 200), 4.0))["auc"] == 1.0
        saturated = attack(np.full((6, 200), np.inf), np.full((6, 200), -np.inf))
    assert saturated["auc"] == 1.0


def test_examples_outside_a_models_forget_set_are_left_out():
    forgotten, never_seen = noise(7, models=10, examples=400)
    expected = attack(forgotten[:, :200], never_seen[:, :200])
    forgotten[:, 200:], never_seen[:, 200:] = np.nan, np.nan
    assert attack(forgotten, never_seen) == expected
    assert np.isnan(attack(np.full((5, 3), np.nan), np.full((5, 3), np.nan))["auc"])


def test_only_folds_that_both_sides_have_are_attacked():
    forgotten, never_seen = noise(8, models=6, examples=50)
    ours, theirs = leave_fold_out(forgotten, never_seen[:3], np.arange(6), np.arange(4, 7))
    assert len(ours) == len(theirs) == 2 * 50
