import numpy as np
import pytest

from mubench_ray.metrics import compute_all
from mubench_ray.metrics.retention import retention_deviation


def correct(right, of=10):
    return np.repeat([1.0, 0.0], [right, of - right])


def test_retention_deviation_is_the_papers_formula():
    # RA, FA, TA of f_U: .9 .6 .8; of f_R: 1.0 .5 .8
    ours, retrains = (correct(9), correct(6), correct(8)), (correct(10), correct(5), correct(8))
    assert retention_deviation(*ours, *retrains) == pytest.approx(abs(0.9 - 1) + abs(0.6 / 0.5 - 1) + 0)


def test_each_ratio_and_the_costs_as_deep_unlearn_defines_them():
    observed = {
        "retain_correct": correct(9),
        "forget_correct": correct(6),
        "test_correct": correct(8),
        "retrain_retain_correct": correct(10),
        "retrain_forget_correct": correct(5),
        "retrain_test_correct": correct(4),
        "seconds": 2.5,
        "retrain_seconds": 43.29,
        "flos": 3.0,
        "retrain_flos": 12.0,
    }
    values = compute_all(observed)
    assert values["retain_retention"] == pytest.approx(0.9)
    assert values["forget_retention"] == pytest.approx(1.2)
    assert values["test_retention"] == pytest.approx(2.0)
    assert values["retention_deviation"] == pytest.approx(0.1 + 0.2 + 1.0)
    assert values["retrain_time_efficiency"] == pytest.approx(43.29 / 2.5)
    assert values["flos_share"] == 0.25


def test_over_forgetting_deviates_as_much_as_not_forgetting():
    fine = correct(10)
    deviations = [
        retention_deviation(fine, forget, fine, fine, correct(5), fine) for forget in (correct(3), correct(7))
    ]
    assert deviations[0] == pytest.approx(deviations[1])


def test_a_retrain_that_gets_nothing_right_leaves_ratios_undefined():
    observed = {
        f"{who}{split}_correct": correct(0 if who else 5)
        for who in ("", "retrain_")
        for split in ("forget", "retain", "test")
    }
    values = compute_all(observed | {"seconds": 0.0, "retrain_seconds": 3.0})
    assert values["forget_retention"] is None and values["retention_deviation"] is None
    assert values["retrain_time_efficiency"] is None
