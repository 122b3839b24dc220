"""Experiments that differ in anything but seeds never share a line, whichever file of a suite they differ in."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.methods import METHODS
from mubench_ray.metrics.base import METRICS
from mubench_ray.report.columns import COLUMN
from mubench_ray.report.load import load
from mubench_ray.report.report import make_report
from mubench_ray.report.sections import blocks
from mubench_ray.report.summary import LINE, ordered, summarise
from mubench_ray.results.store import Outcome
from mubench_ray.suite import make_suite
from mubench_ray.trials import versions
from mubench_ray.trials.rows import planned_row

BASE = {
    "name": "t",
    "tasks": "digits",
    "models": "cnn-small",
    "methods": ["retrain", "original", "ft"],
    "ratios": 5,
    "lrs": 5e-4,
}
WHEN = datetime(2025, 1, 1, tzinfo=UTC)
SCORED = (
    "retrain_time_efficiency",
    "test_accuracy",
    "forget_accuracy",
    "retain_accuracy",
    "forget_retention",
    "flos_share",
)


def add(folder, value, columns=(), **changes):
    """The rows of a suite, all with the same score."""
    for trial in make_plan(make_suite({**BASE, "seeds": [1, 2, 3], **changes})).trials.values():
        row = planned_row(trial) | {"status": "ok"} | dict.fromkeys(SCORED[1:], value) | dict(columns)
        folder.store.write(Outcome(row), list(SCORED))


def lines(folder):
    return [
        (row["task"], row["model"], row["label"], row["test_accuracy"], row["planned"])
        for row in ordered(summarise(load(folder.root)))
    ]


def test_two_trainings_of_one_model(folder):
    """One line ``.688, 6 trials`` once."""
    for epochs, value in ((2, 0.5), (12, 0.877)):
        add(folder, value, models={"name": "cnn-small", "training": {"epochs": epochs}}, methods="retrain")
    assert lines(folder) == [
        ("digits", "cnn-small, epochs 12", "retrain", pytest.approx(0.877), 3),
        ("digits", "cnn-small, epochs 2", "retrain", pytest.approx(0.5), 3),
    ]


def test_two_classes_and_two_budgets(folder):
    """Two seeds counted as six once. The controls know no budget: they are there once a class."""
    for classes, value in (([3], 0.2), ([5], 0.4)):
        for flos, more in ((0.2, 0.0), (1.0, 0.1)):
            add(
                folder, value + more, sampler={"name": "class", "classes": classes, "part": True}, budget={"flos": flos}
            )
    found = lines(folder)
    assert {(task, label): round(value, 3) for task, _, label, value, _ in found if label.startswith("ft")} == {
        ("digits (part of class 3)", "ft · budget 20 %"): 0.2,
        ("digits (part of class 3)", "ft"): 0.3,
        ("digits (part of class 5)", "ft · budget 20 %"): 0.4,
        ("digits (part of class 5)", "ft"): 0.5,
    }
    assert {planned for *_, planned in found} == {3}
    assert len(found) == 2 * (2 + 2)


def test_a_control_that_two_suites_ran_is_not_missing(folder):
    for flos in (0.2, 1.0):
        add(folder, 0.5, budget={"flos": flos})
    folder.store.create({"suite": "t", "trials": 18})
    results = load(folder.root)
    assert len(results.trials) == 12 and results.missing == 0
    folder.store.create({"suite": "t", "trials": 20})
    assert load(folder.root).missing == 2


def test_every_part_of_the_report_sees_the_same_lines(folder):
    for epochs, value in ((2, 0.5), (12, 0.9)):
        add(folder, value, models={"name": "cnn-small", "training": {"epochs": epochs}}, ratios=[5, 10])
    report = make_report(folder.root)
    keys = {tuple(row[name] for name in LINE) for row in report.board.to_pylist()}
    assert (
        len(keys)
        == len({(trial["configuration"], trial["ratio"]) for trial in report.results.trials.to_pylist()})
        == 12
    )
    models = {"cnn-small, epochs 2", "cnn-small, epochs 12"}
    assert set(report.noise["model"].to_pylist()) == models
    assert set(report.scopes["model"].to_pylist()) == models | {"all"}
    assert set(report.noise["test_accuracy"].to_pylist()) == {0.0}  # retrains of one training, all alike
    # Each against the retrain of its own training, as high as it is itself.
    assert set(report.board[COLUMN["forget_accuracy"].difference].to_pylist()) == {0.0}


def test_a_sequence_is_one_contender_over_its_steps(folder):
    add(folder, 0.5, methods=["original", "retrain", "ft"], ratios=[2, 5, 10], sequence=True)
    report = make_report(folder.root)
    assert {row["label"] for row in report.board.to_pylist()} == {"original", "retrain", "ft"}
    assert {row["label"] for row in report.scopes.to_pylist() if row["ratio"] == "all"} == {"original", "retrain", "ft"}


def test_a_sequence_averages_over_its_steps(folder):
    add(folder, 0.5, methods=["retrain", "ft"], ratios=[2, 5, 10], sequence=True)
    scopes = make_report(folder.root).scopes.to_pylist()
    over_all = [row for row in scopes if row["ratio"] == "all" and row["method"] == "retrain"]
    assert len(over_all) == 1


def test_rows_of_an_earlier_version_are_no_repetitions_of_later_ones(folder, monkeypatch):
    """Seeds that the old loop ran and seeds that the new one ran were averaged; what is lacking then is told."""
    changes = {"tasks": {"name": "digits", "subset": 300}, "unlearning": {"batch_size": 71}, "methods": "ft"}
    monkeypatch.setattr(versions, "LOOP", 1)
    add(folder, 0.5, [("finished_at", WHEN)], **changes)
    add(folder, 0.4, [("finished_at", WHEN)], **changes, ratios=10)
    monkeypatch.undo()
    add(folder, 0.7, [("finished_at", WHEN.replace(year=2026))], **changes)
    assert [(value, planned) for *_, value, planned in lines(folder)] == [
        (pytest.approx(0.7), 3),
        (pytest.approx(0.4), 3),
    ]
    assert load(folder.root).refused == []  # the later rows are of all seeds
    add(folder, 0.9, [("finished_at", WHEN.replace(year=2027))], **changes, ratios=10, seeds=[4])
    monkeypatch.setattr(METHODS.get("ft"), "version", METHODS.get("ft").version + 1)
    add(folder, 0.8, **changes, ratios=10, seeds=[5])
    assert [(value, planned) for *_, value, planned in lines(folder)] == [
        (pytest.approx(0.7), 3),
        (pytest.approx(0.8), 1),
    ]
    (reason,) = load(folder.root).refused
    assert reason.startswith("digits, cnn-small, ft, 10 %: 4 of 5 repetitions are left out, which an earlier version")


def test_seconds_of_two_kinds_of_device_have_no_mean(folder):
    times = [("seconds", 2.0), ("device", "cpu"), ("retrain_time_efficiency", 3.0)]
    add(folder, 0.5, times, methods="ft", seeds=[1, 2])
    add(folder, 0.5, times, methods="ft", seeds=[1, 2], ratios=10)
    add(folder, 0.5, [("seconds", 0.1), ("device", "NVIDIA H100")], methods="ft", seeds=[3])
    results = load(folder.root)
    seconds = dict(zip(results.trials["ratio"].to_pylist(), results.values("seconds").tolist(), strict=True))
    assert math.isnan(seconds[5.0]) and seconds[10.0] == 2.0
    board = {row["ratio"]: row for row in make_report(folder.root).board.to_pylist()}
    assert board[5.0]["retrain_time_efficiency"] is None and board[10.0]["retrain_time_efficiency"] == 3.0
    assert board[5.0]["test_accuracy"] == 0.5 and board[5.0]["planned"] == 3


@pytest.mark.parametrize(("column", "other"), [("compute", "bf16"), ("execution", "captured")])
def test_nor_have_those_of_another_precision_or_way_of_execution(folder, column, other):
    times = {"seconds": 2.0, "device": "NVIDIA H100", "compute": "tf32", "execution": "eager"}
    add(folder, 0.5, times.items(), methods="ft", seeds=[1, 2])
    assert set(load(folder.root).values("seconds").tolist()) == {2.0}
    add(folder, 0.5, (times | {column: other}).items(), methods="ft", seeds=[3])
    assert all(math.isnan(value) for value in load(folder.root).values("seconds"))


def test_rows_of_an_earlier_release_were_eager_and_a_failed_one_took_no_time(folder):
    add(folder, 0.5, [("seconds", 2.0), ("device", "cpu")], methods="ft", seeds=1)
    now = {"seconds": 1.0, "device": "cpu", "compute": "fp32", "execution": "eager"}
    add(folder, 0.5, now.items(), methods="ft", seeds=2)
    add(folder, None, [("status", "failed")], methods="ft", seeds=3)
    seconds = load(folder.root).values("seconds")
    assert sorted(seconds[np.isfinite(seconds)]) == [1.0, 2.0]


def test_nor_have_those_of_ratios_that_ran_on_two_kinds_of_device(folder):
    for ratio, seconds, device in ((5, 2.0, "cpu"), (10, 0.5, "NVIDIA H100")):
        add(folder, 0.5, [("seconds", seconds), ("device", device)], methods="ft", ratios=ratio)
    scopes = {row["ratio"]: row for row in make_report(folder.root).scopes.to_pylist()}
    assert {ratio: row["seconds"] for ratio, row in scopes.items()} == {"5": 2.0, "10": 0.5, "all": None}
    assert scopes["all"]["test_accuracy"] == 0.5


def test_rows_of_an_older_version_of_a_metric_are_no_part_of_its_mean(folder, monkeypatch):
    add(folder, 0.5, methods="ft", seeds=[1, 2])
    newer = dataclasses.replace(METRICS.get("test_accuracy"), version=METRICS.get("test_accuracy").version + 1)
    monkeypatch.setitem(METRICS._things, "test_accuracy", newer)
    add(folder, 0.7, methods="ft", seeds=[3])
    (line,) = make_report(folder.root).board.to_pylist()
    assert (line["test_accuracy"], line["planned"], line["n"]) == (pytest.approx(0.7), 3, 3)
    assert line["forget_accuracy"] == pytest.approx((0.5 + 0.5 + 0.7) / 3)
    (reason,) = load(folder.root).refused
    assert reason.startswith("test_accuracy: 2 rows hold it as an older version")


def copied(folder, change):
    """Every file of the trials once more beside it, its rows changed: what a merge by hand makes of two runs of one suite."""
    for path in list((folder.root / "trials").glob("*.parquet")):
        rows = pq.read_table(path)
        pq.write_table(change(rows), path.with_name(f"other-{path.name}"))


def test_an_id_twice_with_equal_numbers_is_one_row(folder):
    add(folder, 0.5, [("seconds", 1.0)])
    before = lines(folder)
    copied(folder, lambda rows: rows.set_column(rows.schema.get_field_index("seconds"), "seconds", pa.array([2.0])))
    assert lines(folder) == before and load(folder.root).refused == []


def test_an_id_twice_with_other_numbers_refuses_its_cell_and_no_other(folder):
    add(folder, 0.5, ratios=[5, 10])

    def change(rows):
        other = (
            0.75
            if (rows["ratio"][0].as_py(), rows["method"][0].as_py(), rows["seed"][0].as_py()) == (5, "ft", 2)
            else 0.5
        )
        return rows.set_column(rows.schema.get_field_index("test_accuracy"), "test_accuracy", pa.array([other]))

    copied(folder, change)
    report = make_report(folder.root)
    assert set(report.board["ratio"].to_pylist()) == {10.0}
    (reason,) = report.results.refused
    assert (
        "digits, cnn-small, 5 % is left out: trial" in reason
        and "(ft)" in reason
        and "test_accuracy" in reason
        and "0.5 (" in reason
        and "0.75 (" in reason
    )
    (block,) = (block for block in blocks(report) if block.title == "Left out")
    assert block.tables[0].rows == [[reason]]


def test_a_refused_cell_is_named_as_its_line_is(folder):
    add(folder, 0.5)
    add(folder, 0.6, models={"name": "cnn-small", "training": {"epochs": 2}})

    def change(rows):
        other = 0.9 if '"epochs":2' in rows["configuration"][0].as_py() else 0.5
        return rows.set_column(rows.schema.get_field_index("test_accuracy"), "test_accuracy", pa.array([other]))

    copied(folder, change)
    refused = load(folder.root).refused
    assert refused and all("cnn-small, epochs 2, 5 % is left out" in reason for reason in refused)
