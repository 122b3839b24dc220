"""A results folder that the release before versions and configurations wrote (data/earlier_release.zip): every command reads it as it is.

It is of the suite below, run by mubench_ray 0.1.0 at commit 82d5dba; rows, curves, examples and forget sets are as they were written.
"""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import describe_plan, manifest
from mubench_ray.methods import METHODS
from mubench_ray.report.live import snapshot
from mubench_ray.report.report import make_report
from mubench_ray.results.controls import hold_to_controls
from mubench_ray.results.marks import TrialMarks
from mubench_ray.results.plans import PLAN, entered, planned
from mubench_ray.results.score import score
from mubench_ray.results.store import Outcome, Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.rerun import rerun_trial
from mubench_ray.trials.rows import planned_row

SUITE = {
    "name": "earlier", "tasks": {"name": "digits", "subset": 120}, "models": "cnn-small", "training": {"epochs": 2},
    "methods": ["original", "retrain", {"name": "ft", "epochs": 1}, "neggrad"], "ratios": [5, 10], "seeds": [1, 2], "lrs": 5e-4,
}  # fmt: skip
#: The part of it whose outcomes have not moved since; ft is of another version now.
UNMOVED = {**SUITE, "methods": ["original", "retrain", "neggrad"]}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder, unpacked."""
    shutil.unpack_archive(Path(__file__).parents[1] / "data" / "earlier_release.zip", tmp_path / "earlier")
    return tmp_path / "earlier"


def said(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


def test_its_ids_are_those_of_today(folder):
    """So that the same command goes on in it; what a mend moves says so with a version."""
    store = Store(folder)
    ids = {row["trial_id"]: row["method"] for row in store.read("trials").to_pylist()}
    today = {trial.id: trial.method for trial in make_plan(make_suite(SUITE)).trials.values()}
    assert {name: ids.get(name) for name in today if today[name] != "ft"} == {
        name: method for name, method in ids.items() if method != "ft"
    }
    assert METHODS.get("ft").version > 1 and not {name for name in today if today[name] == "ft"} & ids.keys()


def test_it_goes_on_without_running_anything(folder, tmp_path):
    before = {path.name: path.read_bytes() for path in (folder / "trials").iterdir()}
    suite = tmp_path / "suite.yaml"
    suite.write_text(json.dumps(UNMOVED))
    assert "12 of 12 trials had their row already" in said("run", suite, "--out", folder)
    assert {path.name: path.read_bytes() for path in (folder / "trials").iterdir()} == before


def test_its_status(folder):
    assert "earlier: 16 of 16 trials done" in said("status", folder)


def test_its_report_has_one_line_a_configuration(folder):
    board = make_report(folder).board.to_pylist()
    assert {(row["task"], row["model"], row["planned"]) for row in board} == {("digits[120]", "cnn-small", 2)}
    rows = Store(folder).read("trials").to_pylist()
    for line in board:
        own = [row for row in rows if (row["method"], row["ratio"]) == (line["method"], line["ratio"])]
        assert line["test_accuracy"] == pytest.approx(statistics.mean(row["test_accuracy"] for row in own))
    assert len(board) == 8


def test_its_marks(folder):
    """Its rows say no configuration, and its verdicts are of named tasks."""
    hold_to_controls(Store(folder))
    marks = TrialMarks(Store(folder))
    (row,) = [each for each in Store(folder).read("trials").to_pylist() if trial_of(each) == ("retrain", 5, 1)]
    assert "configuration" not in row and marks.cell(row) == ("digits[120]", "cnn-small", 5.0)
    assert marks.said(row) and marks.name(row) == "retrain°"
    assert snapshot(folder)["done"] == 16


def trial_of(row: dict) -> tuple:
    return row["method"], row["ratio"], row["seed"]


def test_its_scores(folder):
    stored = {row["trial_id"]: row["test_accuracy"] for row in Store(folder).read("trials").to_pylist()}
    again = {row["trial_id"]: row["value"] for row in score(folder, "test_accuracy").to_pylist()}
    assert again == pytest.approx(stored)
    parts = score(folder, "deletion_capacity").to_pylist()
    assert {row["method"] for row in parts} == {"original", "retrain", "ft", "neggrad"}
    assert len({row["configuration"] for row in parts}) == 4


def test_it_is_a_submission(folder, tmp_path):
    said("leaderboard", "pack", folder)
    said("leaderboard", "merge", folder, "--out", tmp_path / "board")
    board = make_report(tmp_path / "board").board
    assert len(board) == 8 and set(board["planned"].to_pylist()) == {2}


def test_rows_of_today_lie_beside_its_own(folder):
    """A third seed joins the lines that are there."""
    store, plan = Store(folder), make_plan(make_suite({**UNMOVED, "seeds": 3}))
    for trial in plan.trials.values():
        store.write(Outcome(planned_row(trial) | {"status": "ok", "test_accuracy": 0.5}), ["test_accuracy"])
    assert set(make_report(folder).board["planned"].to_pylist()) == {2}  # nobody planned them here
    whole = entered(store, describe_plan(plan))
    store.create(manifest(plan.suite, plan) | {"trials": planned(whole)})
    store.write_text(PLAN, json.dumps(whole))
    board = make_report(folder).board
    found = {(row["method"], row["planned"]) for row in board.to_pylist()}
    assert len(board) == 8 and found == {("original", 3), ("retrain", 3), ("neggrad", 3), ("ft", 2)}
    assert "22 of 22 trials done" in said("status", folder)


def test_a_row_of_it_is_run_again(folder):
    """From artifacts that are made anew; which numbers come out depends on the machine, and every one is told."""
    (row,) = (
        row
        for row in Store(folder).read("trials").to_pylist()
        if (row["method"], row["ratio"], row["seed"]) == ("neggrad", 5, 1)
    )
    compared = {each.name: each for each in rerun_trial(folder, row)}
    assert (
        compared["status"].same and compared["flos"].same and compared["test_accuracy"].stored == row["test_accuracy"]
    )
    assert "versions above 1" not in compared


def test_a_row_that_another_version_made_says_so(folder, monkeypatch):
    (row,) = (
        row
        for row in Store(folder).read("trials").to_pylist()
        if (row["method"], row["ratio"], row["seed"]) == ("ft", 5, 1)
    )
    monkeypatch.setattr(METHODS.get("ft"), "version", 7)
    made = rerun_trial(folder, row)[0]
    assert (made.name, made.stored, made.again, made.same) == ("versions above 1", "{}", '{"method":7}', False)
