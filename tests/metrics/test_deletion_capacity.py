import numpy as np
import pytest

from mubench_ray.metrics import compute_group
from mubench_ray.metrics.deletion_capacity import capacity, capacity_with_interval

RATIOS = np.array([1.0, 2, 5, 10])


@pytest.mark.parametrize(
    "harm, expected",
    [
        ([0, 0, 0, 0], 10.0),
        ([0, 0.01, 0.2, 0.3], 2.0),
        ([0.2, 0, 0, 0], 0.0),
        ([0, 0, 0.2, 0.0], 2.0),
        ([0, np.nan, 0, 0], 1.0),
    ],
)
def test_everything_up_to_the_capacity_must_be_harmless(harm, expected):
    assert capacity(RATIOS, np.array(harm, float), 0.05) == expected


def test_the_margin_itself_is_inside():
    assert capacity(RATIOS, np.array([0.05, 0.0501, 0, 0]), 0.05) == 1.0


def trials(harm_of, seeds=10, noise=0.0, rng=None):
    ratio, seed = (grid.ravel() for grid in np.meshgrid(RATIOS, np.arange(seeds)))
    harm = np.array([harm_of(r) for r in ratio]) + (rng.normal(0, noise, seeds)[seed] if noise else 0)
    return ratio, harm, seed


def test_a_clear_capacity_has_an_interval_of_no_width():
    found = capacity_with_interval(*trials(lambda ratio: 0.2 if ratio > 5 else 0.0), margin=0.05)
    assert found == {"capacity": 5.0, "low": 5.0, "high": 5.0}


def test_the_interval_covers_the_true_capacity_as_often_as_it_says():
    # Mean harm 0.045 at 5 %, 0.055 at 10 %: the truth is 5 %, and single seeds stray on either side.
    covered = []
    for draw in range(150):
        rng = np.random.default_rng(draw)
        ratio, harm, seed = trials(lambda r: {1.0: 0.0, 2.0: 0.0, 5.0: 0.045, 10.0: 0.055}[r], noise=0.01, rng=rng)
        found = capacity_with_interval(ratio, harm, seed, margin=0.05, draws=300)
        covered.append(found["low"] <= 5.0 <= found["high"])
    assert np.mean(covered) > 0.88


def test_two_seeds_give_a_value_without_interval_and_none_gives_nothing():
    found = capacity_with_interval(*trials(lambda ratio: 0.0, seeds=2), margin=0.05)
    assert found["capacity"] == 10.0 and np.isnan(found["low"])
    nothing = capacity_with_interval(np.array([1.0]), np.array([np.nan]), np.array([1]), margin=0.05)
    assert np.isnan(nothing["capacity"])


def test_a_failed_trial_does_not_move_its_neighbours():
    ratio, harm, seed = trials(lambda r: 0.2 if r > 5 else 0.0)
    harm[3] = np.nan
    assert capacity_with_interval(ratio, harm, seed, margin=0.05)["capacity"] == 5.0


def test_the_registered_metrics_measure_against_the_original_and_take_a_margin():
    observed = {
        "ratio": np.tile(RATIOS, 3),
        "training_seed": np.repeat([1, 2, 3], 4),
        "trial_fold": np.repeat([1, 2, 3], 4),
        "test_loss": np.tile([0.50, 0.52, 0.54, 0.70], 3),
        "original_test_loss": np.full(12, 0.5),
        "test_accuracy": np.tile([0.90, 0.895, 0.88, 0.8], 3),
        "original_test_accuracy": np.full(12, 0.9),
    }
    assert compute_group("deletion_capacity", observed)[0]["capacity"] == 5.0
    assert compute_group("deletion_capacity", observed, {"margin": 0.03})[0]["capacity"] == 2.0
    assert compute_group("deletion_capacity_accuracy", observed)[0] == {"capacity": 2.0, "low": 2.0, "high": 2.0}
    better = {**observed, "test_loss": observed["test_loss"] - 1}  # lower loss than the original is no harm
    assert compute_group("deletion_capacity", better)[0]["capacity"] == 10.0
