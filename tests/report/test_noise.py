from __future__ import annotations

import pytest

from mubench_ray.report.load import load
from mubench_ray.report.noise import noise_floor


def test_retrain_against_retrain_by_hand(folder):
    folder.controls()  # D_F .80 .81 .82, D_Test .9 and D_R 1 for all
    (row,) = noise_floor(load(folder.root)).to_pylist()
    assert row["retrains"] == 3
    assert row["forget_accuracy"] == pytest.approx((0.01 + 0.02 + 0.01) / 3)
    assert row["test_accuracy"] == pytest.approx(0)
    ratios = [abs(a / b - 1) for a in (0.80, 0.81, 0.82) for b in (0.80, 0.81, 0.82) if a != b]
    assert row["retention_deviation"] == pytest.approx(sum(ratios) / 6)
    assert "flos_share" not in row  # relative to the own retrain: two retrains cannot differ in it


def test_forget_draws_are_not_compared_with_each_other(folder):
    folder.add("retrain", seed=0, forget_seed=1, forget_accuracy=0.5)
    folder.add("retrain", seed=1, forget_seed=1, forget_accuracy=0.6)
    folder.add("retrain", seed=0, forget_seed=2, forget_accuracy=0.9)
    (row,) = noise_floor(load(folder.root)).to_pylist()
    assert row["retrains"] == 3
    assert row["forget_accuracy"] == pytest.approx(0.1)


def test_one_retrain_has_no_floor(folder):
    folder.controls(seeds=(0,))
    (row,) = noise_floor(load(folder.root)).to_pylist()
    assert row["retrains"] == 1 and row["forget_accuracy"] is None


def test_a_measure_that_compares_with_the_retrain_has_the_floor_of_others_or_none(folder):
    """Every retrain's own value is 0, and a floor of 0 would say that two of them are alike."""
    folder.controls(forget_gap=0.0, relearning_area=0.0)
    (row,) = noise_floor(load(folder.root)).to_pylist()
    assert row["forget_gap"] == pytest.approx((0.01 + 0.02 + 0.01) / 3)
    assert row["relearning_area"] is None
