import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from mubench_ray.metrics import compute_one
from mubench_ray.metrics.u_mia import attack_accuracy


def test_a_perfect_leak_is_found_for_certain():
    rng = np.random.default_rng(0)
    assert attack_accuracy(rng.uniform(0, 1, 200), rng.uniform(5, 6, 200)) == 1.0


def test_no_leak_is_chance_within_its_interval():
    accuracies = [attack_accuracy(*np.random.default_rng(seed).gamma(1, 1, (2, 300))) for seed in range(20)]
    mean, error = np.mean(accuracies), np.std(accuracies, ddof=1) / np.sqrt(20)
    assert abs(mean - 0.5) < 3 * error + 0.01
    assert all(0.4 < accuracy < 0.6 for accuracy in accuracies)


def test_a_known_overlap_gives_its_known_accuracy():
    # Uniform on [0, 1] against [0.5, 1.5]: the best threshold is right for 75 %.
    rng = np.random.default_rng(1)
    assert attack_accuracy(rng.uniform(0, 1, 4000), rng.uniform(0.5, 1.5, 4000)) == pytest.approx(0.75, abs=0.02)


def test_both_sides_are_trimmed_to_equal_size_so_that_the_larger_does_not_win():
    # With 100 against 5,000 untrimmed examples, always saying "other" would be right for 98 %.
    rng = np.random.default_rng(2)
    assert attack_accuracy(rng.gamma(1, 1, 100), rng.gamma(1, 1, 5000)) == pytest.approx(0.5, abs=0.12)


def test_trimming_is_a_shuffle_and_not_a_prefix():
    rng = np.random.default_rng(3)
    members = rng.uniform(0, 1, 100)
    others = np.concatenate([rng.uniform(5, 6, 100), rng.uniform(0, 1, 900)])  # the prefix alone is a perfect leak
    assert attack_accuracy(members, others) < 0.7


def test_ten_folds_of_a_logistic_regression_by_hand():
    rng = np.random.default_rng(4)
    members, others = rng.gamma(1, 1, 60), rng.gamma(2, 1, 60)
    order = np.random.default_rng(0)
    losses = np.concatenate([order.permutation(members), order.permutation(others)])[:, None]
    labels = np.repeat([1, 0], 60)
    scores = []
    for train, test in StratifiedKFold(10, shuffle=True, random_state=0).split(losses, labels):
        scores.append(
            (LogisticRegression().fit(losses[train], labels[train]).predict(losses[test]) == labels[test]).mean()
        )
    assert len(scores) == 10
    assert attack_accuracy(members, others) == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("accuracy, expected", [(0.5, 1.0), (1.0, 0.0), (0.0, 0.0), (0.7, 0.6), (0.3, 0.6)])
def test_indisc_is_one_minus_twice_the_distance_to_chance(accuracy, expected):
    assert compute_one("indisc", {}, {"u_mia": accuracy}) == pytest.approx(expected)
    assert compute_one("indisc_validation", {}, {"u_mia_validation": accuracy}) == pytest.approx(expected)


def test_over_forgetting_lowers_indisc_as_remembering_does():
    rng = np.random.default_rng(5)
    typical = rng.gamma(2, 1, 400)
    values = [
        compute_one("indisc", {"forget_loss": forget, "test_loss": typical, "seed": 0}, {})
        for forget in (typical / 20, typical + 15)
    ]
    assert values[0] < 0.3 and values[1] < 0.3


def test_fewer_than_ten_and_infinite_losses():
    assert np.isnan(attack_accuracy(np.ones(9), np.ones(100)))
    assert attack_accuracy(np.full(50, np.inf), np.linspace(0, 1, 50)) == 1.0
    assert attack_accuracy(np.ones(50), np.ones(50)) == 0.5  # all alike: nothing to tell apart
