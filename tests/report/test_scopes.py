from __future__ import annotations

import pytest

from mubench_ray.report.load import load
from mubench_ray.report.scopes import ALL, scoped


def averages(folder):
    results = load(folder.root)
    table = scoped(results, {"test_accuracy": results.values("test_accuracy")})
    return {(row["task"], row["model"], row["ratio"], row["method"]): row for row in table.to_pylist()}


def test_an_average_is_over_cells_within_seeds(folder):
    for seed in range(2):
        folder.add(seed=seed, ratio=5.0, test_accuracy=0.8 + 0.1 * seed)
        folder.add(seed=seed, ratio=10.0, test_accuracy=0.6 - 0.1 * seed)
    rows = averages(folder)
    row = rows["digits", "cnn", ALL, "ft"]
    assert row["test_accuracy"] == pytest.approx(0.7)
    assert row["test_accuracy_high"] - row["test_accuracy_low"] == pytest.approx(0, abs=1e-9)  # both seeds average .7
    assert rows["digits", "cnn", "5", "ft"]["test_accuracy"] == pytest.approx(0.85)


def test_who_misses_a_cell_is_not_averaged(folder):
    for task in ("a", "b"):
        folder.add("ft", task=task, test_accuracy=0.9)
    folder.add("salun", task="a", test_accuracy=1.0)
    folder.add("salun", task="b", status="failed", error="boom")
    rows = averages(folder)
    assert rows[ALL, "cnn", "10", "ft"]["test_accuracy"] == pytest.approx(0.9)
    assert (ALL, "cnn", "10", "salun") not in rows


def test_an_incomplete_seed_does_not_enter_the_average(folder):
    for seed in range(2):
        folder.add(seed=seed, task="a", test_accuracy=0.5)
    folder.add(seed=0, task="b", test_accuracy=0.7)
    row = averages(folder)[ALL, "cnn", "10", "ft"]
    assert row["n"] == 2 and row["test_accuracy"] == pytest.approx(0.6)


def test_nothing_is_averaged_where_there_is_one_of_each(folder):
    folder.add(test_accuracy=0.5)
    assert set(averages(folder)) == {("digits", "cnn", "10", "ft")}
