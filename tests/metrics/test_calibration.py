import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from mubench_ray.metrics.calibration import BINS, expected_calibration_error


def test_it_is_the_weighted_gap_of_the_reliability_curve():
    rng = np.random.default_rng(0)
    sure = rng.beta(5, 2, 3000)
    right = rng.binomial(1, sure**1.5).astype(float)
    share, mean = calibration_curve(right, sure, n_bins=BINS)
    counts = np.histogram(sure, np.linspace(0, 1, BINS + 1))[0]
    expected = np.abs(share - mean) @ counts[counts > 0] / len(sure)
    assert expected_calibration_error(sure, right) == pytest.approx(expected) and expected > 0.03


def test_a_network_that_is_as_often_right_as_it_says_is_calibrated():
    assert expected_calibration_error(np.full(10, 0.7), np.repeat([1.0, 0.0], [7, 3])) == pytest.approx(0)
    assert expected_calibration_error(np.ones(10), np.repeat([1.0, 0.0], [7, 3])) == pytest.approx(0.3)
    assert expected_calibration_error(np.ones(4), np.zeros(4)) == 1.0


def test_over_and_under_confidence_of_one_bin_cancel_and_of_two_do_not():
    right = np.array([1.0, 0.0])
    assert expected_calibration_error(np.array([0.45, 0.46]), right) == pytest.approx(0.045)
    assert expected_calibration_error(np.array([0.45, 0.55]), right) == pytest.approx(0.55)


def test_a_bin_holds_its_upper_end_as_guo_et_al_have_it():
    end = 1 / BINS
    together = expected_calibration_error(np.array([end, end - 1e-9]), np.array([0.0, 1.0]))
    apart = expected_calibration_error(np.array([end, end + 1e-9]), np.array([0.0, 1.0]))
    assert together == pytest.approx(0.5 - end) and apart == pytest.approx(0.5)
