"""The leaderboard recomputed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mubench_ray.report.load import load
from mubench_ray.report.statistics import bootstrap_interval
from mubench_ray.report.summary import ordered, summarise
from mubench_ray.results.configurations import spoken


def rows_of(folder, **wanted):
    rows = summarise(load(folder.root)).to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_means_spread_and_statuses(folder):
    folder.controls()
    for seed, accuracy in enumerate((0.80, 0.84, 0.88)):
        folder.add(seed=seed, test_accuracy=accuracy, forget_accuracy=0.9, status="truncated" if seed == 0 else "ok")
    folder.add(seed=3, status="failed", error="boom", test_accuracy=0.1)
    (row,) = rows_of(folder, method="ft")
    assert (row["n"], row["planned"], row["ok"], row["truncated"], row["failed"]) == (3, 4, 2, 1, 1)
    assert row["test_accuracy"] == pytest.approx(0.84)
    assert row["test_accuracy_sd"] == pytest.approx(0.04)
    low, high = bootstrap_interval(np.array([0.80, 0.84, 0.88]))
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == (
        pytest.approx(float(low)),
        pytest.approx(float(high)),
    )
    assert row["indisc"] is None and row["indisc_low"] is None
    assert row["interval_over"] == "training seed"


def test_difference_to_the_retrain_of_the_same_seed(folder):
    folder.controls()
    for seed in range(3):
        folder.add(seed=seed, forget_accuracy=0.9 + 0.01 * seed, test_accuracy=0.9, retain_accuracy=1.0)
    (row,) = rows_of(folder, method="ft")
    assert row["forget_accuracy_minus_retrain"] == pytest.approx(0.1)
    assert row["forget_accuracy_minus_retrain_sd"] == pytest.approx(0, abs=1e-9)  # paired: the seeds' spread cancels
    assert row["forget_accuracy_sd"] == pytest.approx(0.01)


def test_without_the_retrain_control_the_retention_ratio_tells_it(folder):
    folder.add(seed=0, forget_accuracy=0.9, forget_retention=0.9 / 0.75)
    (row,) = rows_of(folder, method="ft")
    assert row["forget_accuracy_minus_retrain"] == pytest.approx(0.15)


def test_one_seed_has_a_mean_and_no_interval(folder):
    folder.add(seed=0, test_accuracy=0.9)
    (row,) = rows_of(folder)
    assert row["test_accuracy"] == 0.9
    assert row["test_accuracy_sd"] is row["test_accuracy_low"] is row["test_accuracy_high"] is None


def test_only_failed_trials_have_no_numbers(folder):
    folder.add(status="failed", error="boom")
    (row,) = rows_of(folder)
    assert (row["n"], row["planned"], row["failed"]) == (0, 1, 1)
    assert row["test_accuracy"] is None


def test_unlearning_seeds_of_one_model_are_named_as_such(folder):
    for seed in range(3):
        folder.add(seed=seed, training_seed=7, test_accuracy=0.8 + 0.01 * seed)
    (row,) = rows_of(folder)
    assert row["interval_over"] == "unlearning seed" and row["test_accuracy_low"] is not None


def test_an_interval_stays_inside_the_declared_range(folder):
    folder.store.write_text("metrics.json", json.dumps({"test_accuracy": {"direction": "higher", "low": 0, "high": 1}}))
    for seed, accuracy in enumerate((0.90, 1.0)):
        folder.add(seed=seed, test_accuracy=accuracy)
    (row,) = rows_of(folder)
    assert row["test_accuracy_high"] == 1.0


def test_each_learning_rate_and_setting_is_its_own_row(folder):
    folder.add(lr=1e-5)
    folder.add(lr=5e-4)
    folder.add("salun", hyperparameters='{"tau": 0.5, "epochs": 5}')
    folder.add("salun", hyperparameters='{"tau": 0.25, "epochs": 5}')
    folder.add("scrub", options='{"lora": {"rank": 8}}')
    folder.add("scrub")
    assert {row["label"] for row in rows_of(folder)} == {
        "ft · lr 1e-5",
        "ft · lr 5e-4",
        "salun · tau 0.5",
        "salun · tau 0.25",
        "scrub · lora.rank 8",
        "scrub",
    }


def test_a_cut_task_is_another_task(folder):
    folder.add(trial='{"task":"digits","subset":300}')
    folder.add(trial='{"task":"digits","subset":null}')
    assert {row["task"] for row in rows_of(folder)} == {"digits", "digits[300]"}


def test_controls_come_first(folder):
    folder.add("bad_t")
    folder.controls(seeds=(0,))
    board = summarise(load(folder.root))
    assert [row["method"] for row in ordered(board)] == ["retrain", "original", "bad_t"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-4, "5e-4"), (1.25e-5, "1.25e-5"), (0.5, "0.5"), (10.0, "10"), (None, "none"), (True, "True"), ("x", "x")],
)
def test_numbers_as_people_write_them(value, text):
    assert spoken(value) == text
