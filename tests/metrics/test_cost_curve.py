import numpy as np
import pytest

from mubench_ray.metrics.cost_curve import score_at_cost, value_at_share

SHARE = np.array([0.0, 0.1, 0.3])
VALUE = np.array([0.2, 0.6, 0.8])


@pytest.mark.parametrize("at, expected", [(0.0, 0.2), (0.05, 0.6), (0.1, 0.6), (0.2, 0.8), (0.3, 0.8), (1.0, 0.8)])
def test_the_first_point_at_or_past_the_cost_and_the_last_after_the_end(at, expected):
    assert value_at_share(SHARE, VALUE, at) == pytest.approx(expected)


def test_of_two_points_at_one_cost_the_later_counts():
    assert value_at_share(np.array([0.0, 0.1, 0.1]), np.array([0.2, 0.6, 0.9]), 0.1) == 0.9
    assert value_at_share(np.array([0.0, 0.0]), np.array([0.2, 0.9]), 0.5) == 0.9


def test_before_the_first_point_nothing_is_known():
    assert np.isnan(value_at_share(np.array([1.0]), np.array([0.9]), 0.5))  # the retrain: all its cost at once
    assert value_at_share(np.array([1.0]), np.array([0.9]), 1.0) == 0.9
    assert np.isnan(value_at_share(np.array([]), np.array([]), 0.5))


def test_nan_padding_is_no_point():
    padded = np.append(SHARE, np.nan), np.append(VALUE, np.nan)
    assert value_at_share(*padded, 1.0) == 0.8


def test_all_six_shares_of_all_three_sets():
    found = score_at_cost(SHARE[None], VALUE[None], 1 - VALUE[None], VALUE[None] / 2)
    assert len(found) == 18
    assert found["test_accuracy_at_5_percent"] == pytest.approx(0.6)
    assert found["forget_accuracy_at_100_percent"] == pytest.approx(0.2)
    assert found["retain_accuracy_at_10_percent"] == pytest.approx(0.3)
