import numpy as np
import pytest

from mubench_ray.metrics.relearning import relearning_area, relearning_return, relearning_steps_share, steps_to_reach

STEPS = np.array([0.0, 10, 20, 40])
RETRAIN = np.array([0.5, 0.55, 0.6, 0.7])


def test_a_model_that_relearns_as_the_retrain_does_has_nothing_hidden():
    assert relearning_area(STEPS, RETRAIN, RETRAIN) == 0.0
    assert relearning_return(RETRAIN, RETRAIN) == 0.0
    assert relearning_steps_share(STEPS, RETRAIN, RETRAIN) == 1.0


def test_the_area_weighs_by_steps_and_not_by_points():
    # 0.2 above the retrain on the last half of the steps, after a ramp over the third quarter... by trapezoids.
    ours = RETRAIN + np.array([0.0, 0.0, 0.2, 0.2])
    assert relearning_area(STEPS, ours, RETRAIN) == pytest.approx((10 * 0.1 + 20 * 0.2) / 40)


def test_hidden_knowledge_returns_sooner_and_further():
    hidden = np.array([0.1, 0.9, 0.95, 0.95])
    assert relearning_return(hidden, RETRAIN) == pytest.approx(0.85 - 0.2)
    # 0.7 is reached at three quarters of the first ten steps; the retrain needs forty.
    assert relearning_steps_share(STEPS, hidden, RETRAIN) == pytest.approx(7.5 / 40)


def test_steps_are_undefined_where_there_is_nothing_to_regain():
    assert np.isnan(relearning_steps_share(STEPS, np.full(4, 0.1), RETRAIN))  # never gets there
    assert np.isnan(relearning_steps_share(STEPS, RETRAIN, RETRAIN[::-1]))  # the retrain starts there
    assert relearning_steps_share(STEPS, np.full(4, 0.9), RETRAIN) == 0.0  # was never gone
    assert steps_to_reach(STEPS, RETRAIN, 0.575) == pytest.approx(15.0)


def test_a_curve_of_one_point_has_no_area():
    assert np.isnan(relearning_area(STEPS[:1], RETRAIN[:1], RETRAIN[:1]))
