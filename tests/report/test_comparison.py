from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from mubench_ray.report.comparison import group_letters, holm, letters, paired_p_values
from mubench_ray.report.load import load


def test_p_values_are_the_paired_t_tests():
    values = np.random.default_rng(0).normal(size=(3, 6))
    p = paired_p_values(values)
    assert p[0, 2] == pytest.approx(ttest_rel(values[0], values[2]).pvalue)
    np.testing.assert_allclose(p, p.T)
    np.testing.assert_allclose(np.diag(p), 1)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == [True, False, False, True]  # .05/4, .05/3, .05/2
    assert holm(np.array([0.2, 0.9])).tolist() == [False, False]
    assert holm(np.array([0.001, 0.002])).tolist() == [True, True]


def test_equal_methods_are_rarely_told_apart():
    """Family-wise error over 8 equal methods, 28 pairs: at most 5% (three standard errors allowed)."""
    rng = np.random.default_rng(1)
    wrong = sum(len(set(letters(rng.normal(size=(8, 5))))) > 1 for _ in range(1000))
    assert wrong / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_different_methods_are_told_apart():
    noise = np.random.default_rng(2).normal(0, 0.01, (4, 5))
    assert letters(noise + np.array([[0.0], [0.0], [1.0], [2.0]])) == ["a", "a", "b", "c"]


def test_a_middle_method_shares_both_letters():
    noise = np.array([[0.0, 0.1, -0.1, 0.05, -0.05], [0.9, -0.7, 1.3, -0.2, 1.2], [1.0, 1.1, 0.9, 1.0, 1.02]])
    assert letters(noise) == ["a", "ab", "b"]


def test_two_common_seeds_decide_nothing():
    assert letters(np.array([[0.0, 0.001, np.nan], [9.0, 9.002, 9.0]])) == ["a", "a"]


def test_groups_of_a_folder_are_by_cell_and_leave_controls_out(folder):
    folder.controls()
    for seed in range(3):
        for ratio in (5.0, 10.0):
            folder.add("ft", seed=seed, ratio=ratio, retention_deviation=0.1 + 0.001 * seed)
            folder.add("ga", seed=seed, ratio=ratio, retention_deviation=(0.1 if ratio == 5 else 5) + 0.002 * seed**2)
    table = group_letters(load(folder.root), "retention_deviation", higher=False).to_pylist()
    found = {(row["ratio"], row["method"]): row["group"] for row in table}
    assert found[5.0, "ft"] == found[5.0, "ga"] == "a"
    assert (found[10.0, "ft"], found[10.0, "ga"]) == ("a", "b")
    assert found[10.0, "retrain"] == ""
