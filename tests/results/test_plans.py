"""The plan of a folder is the union of the suites run into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.job import searching_name
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import Work, describe_plan, manifest, search_rows
from mubench_ray.report.report import make_report
from mubench_ray.results.plans import PLAN, entered, planned, read_plan
from mubench_ray.results.store import Outcome, Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.observing import Wanted, failed_record
from mubench_ray.trials.rows import planned_row

BASE = {
    "name": "t",
    "tasks": "digits",
    "models": "cnn-small",
    "methods": ["retrain", "ft"],
    "ratios": 5,
    "lrs": 5e-4,
    "seeds": [1, 2],
}


def enter(store: Store, rows: bool = True, **changes) -> set[str]:
    """Run a suite into the folder as far as plans and ids go; returns its trials' ids."""
    suite = make_suite({**BASE, **changes})
    plan = make_plan(suite)
    whole = entered(store, describe_plan(plan))
    store.create(manifest(suite, plan) | {"trials": planned(whole)})
    store.write_text(PLAN, json.dumps(whole))
    for trial in plan.trials.values() if rows else ():
        store.write(Outcome(planned_row(trial) | {"status": "ok"}), [])
    return set(plan.trials)


def status(store: Store) -> str:
    return " ".join(CliRunner().invoke(app, ["status", str(store.root)], catch_exceptions=False).output.split())


def test_another_training_in_the_same_folder_is_planned_too(tmp_path):
    """It said: 16 of 8 trials done."""
    store = Store(tmp_path / "out")
    first = enter(store, training={"epochs": 2})
    second = enter(store, rows=False, training={"epochs": 4})
    assert set(read_plan(store)["trials"]) == first | second and not first & second
    assert "4 of 8 trials done" in status(store)
    assert [each["suite"]["training"] for each in read_plan(store)["suites"]] == [{"epochs": 2}, {"epochs": 4}]
    enter(store, training={"epochs": 4})
    assert "8 of 8 trials done" in status(store) and "more rows" not in status(store)


def test_the_same_suite_again_is_the_same_entry(tmp_path):
    store = Store(tmp_path / "out")
    trials = enter(store)
    assert enter(store, resources={"concurrency": 1}, mlflow_uri="sqlite:///elsewhere.db") == trials
    assert len(read_plan(store)["suites"]) == 1
    more = enter(store, seeds=[1, 2, 3])
    assert len(read_plan(store)["suites"]) == 1 and set(read_plan(store)["trials"]) == more > trials


def test_rows_that_nobody_planned_are_told_apart(tmp_path):
    store = Store(tmp_path / "out")
    enter(store)
    for trial in make_plan(make_suite({**BASE, "seeds": 9})).trials.values():
        store.write(Outcome(planned_row(trial) | {"status": "failed", "error": "of another suite"}), [])
    assert "4 of 4 trials done" in status(store) and "2 more rows are of no suite that was run here" in status(store)
    assert "of another suite" not in status(store)


def test_rows_that_nobody_planned_are_in_no_mean(tmp_path):
    """They were averaged as if they were seeds of the folder's suite."""
    store = Store(tmp_path / "out")
    enter(store)
    for trial in make_plan(make_suite({**BASE, "seeds": 9})).trials.values():
        store.write(Outcome(planned_row(trial) | {"status": "ok"}), [])
    report = make_report(store.root)
    assert set(report.board["planned"].to_pylist()) == {2}
    (told,) = report.results.refused
    assert told.startswith("digits, cnn-small: 2 rows are left out") and "(ft 1, retrain 1)" in told
    (store.root / PLAN).unlink()  # a folder that was merged by hand has no plan: all of its rows count
    report = make_report(store.root)
    assert set(report.board["planned"].to_pylist()) == {3} and not report.results.refused


def test_a_search_plans_more_than_is_known_while_it_runs(tmp_path):
    store = Store(tmp_path / "out")
    suite = make_suite({**BASE, "search": {"trials": 2}})
    plan = make_plan(suite)
    store.create(manifest(suite, plan))
    store.write_text("suite.json", suite.model_dump_json())
    for name in ("metrics.json", "methods.json"):
        store.write_text(name, "{}")
    work = Work(plan, store, "artifacts", retry_failed=False)
    work.write_plan()
    known = read_plan(store)
    assert planned(known) == 4 and 0 < len(known["trials"]) < 4  # controls have nothing to search


def test_a_search_makes_no_artifact_for_what_its_objectives_do_not_read(tmp_path):
    """The knowledge gap's networks were trained for every seed of the search, whose trials are not looked at for it."""
    store = Store(tmp_path / "out")
    suite = make_suite(
        {**BASE, "search": {"trials": 2}, "observations": "knowledge_gap", "methods": ["ft", "original"]}
    )
    store.create(manifest(suite, make_plan(suite)))
    for name in ("suite.json", "metrics.json", "methods.json"):
        store.write_text(name, "{}")
    work = Work(make_plan(suite), store, str(tmp_path / "artifacts"), retry_failed=False)
    needs = work.needs(work.missing)
    assert work.tuning is not None and work.tuning.search_trials
    made_for = {
        work.job(need).content.seed for jobs in needs.values() for need in jobs if need.startswith("forget-only")
    }
    assert made_for == set(suite.seeds)  # of the reported controls alone
    assert all(len(needs[searching_name(name)]) == 2 for name in work.tuning.search_trials)


def test_to_try_again_what_failed_of_a_suite_leaves_the_failures_of_another_one(tmp_path):
    """They were gone from the folder, and nobody ran them."""
    store, suites = Store(tmp_path / "out"), {}
    for epochs in (2, 4):
        enter(store, rows=False, training={"epochs": epochs})
        suites[epochs] = make_plan(make_suite({**BASE, "training": {"epochs": epochs}}))
        for trial in suites[epochs].trials.values():
            store.write(Outcome(planned_row(trial) | {"status": "failed"}), [])
            store.write_observations([failed_record(trial, Wanted.now("relearn_benign"), "why")])
    assert Work(suites[4], store, "artifacts", retry_failed=True).missing.keys() == suites[4].trials.keys()
    assert store.finished() == suites[2].trials.keys() == set(store.read("observations")["trial_id"].to_pylist())


def test_rows_of_another_search_are_none_that_a_run_has_done(tmp_path):
    store, expected = Store(tmp_path / "out"), []
    for seed in (7, 8):
        suite = make_suite({**BASE, "search": {"trials": 2, "seeds": seed}})
        store.create(manifest(suite, make_plan(suite)))
        for name in ("suite.json", "metrics.json", "methods.json"):
            store.write_text(name, "{}")
        work = Work(make_plan(suite), store, "artifacts", retry_failed=False)
        expected.append(work.expected)
        assert work.tuning is not None
        for trial in work.tuning.search_trials.values():
            store.part("search").write(Outcome(planned_row(trial) | {"status": "failed"}), [])
    assert expected[0] == expected[1]


def test_the_plan_of_an_earlier_release_is_kept_with_its_suite(tmp_path):
    shutil.unpack_archive(Path(__file__).parents[1] / "data" / "earlier_release.zip", tmp_path / "earlier")
    store = Store(tmp_path / "earlier")
    enter(store)
    names = [each["suite"]["name"] for each in read_plan(store)["suites"]]
    assert names == ["earlier", "t"] and "20 of 20 trials done" in status(store)


def test_a_trial_of_two_suites_is_in_the_line_of_either(tmp_path):
    """What one suite gives and another one tuned: rows are of the suite that wrote them, and count for both."""
    store = Store(tmp_path / "out")
    enter(store, methods="ft", seeds=[1, 2])
    suite = make_suite({**BASE, "methods": "ft", "seeds": [1, 2, 3], "search": {"trials": 2}})
    plan = make_plan(suite)
    for name in ("suite.json", "metrics.json", "methods.json"):
        store.write_text(name, suite.model_dump_json() if name == "suite.json" else "{}")
    work = Work(plan, store, "artifacts", retry_failed=False)
    plan.trials = dict(make_plan(suite).trials)  # as if the search had chosen what the suite before gave
    for trial in plan.trials.values():
        if trial.id not in work.done:
            store.write(Outcome(planned_row(trial) | {"status": "ok"}), [])
    work.write_plan()
    board = {row["label"]: row["planned"] for row in make_report(store.root).board.to_pylist()}
    assert sorted(board.values()) == [2, 3] and len(board) == 2


RELEARN = {"objectives": {"relearning_area": 1.0}, "strategy": "random", "trials": 2}


def searched(tmp_path, steps: int):
    """A plan that searches by what f_U relearns in so many steps, and a search's folder with the rows of its two first trials."""
    plan = make_plan(
        make_suite({**BASE, "search": RELEARN, "observations": {"name": "relearn_benign", "steps": steps}})
    )
    store = Store(tmp_path / "search")
    store.create({"suite": "t"})
    return plan, store


def test_a_search_knows_the_rows_that_were_looked_at_as_its_suite_asks(tmp_path):
    """Rows without what an objective reads were unusable, and the default was reported as tuned."""
    plan, store = searched(tmp_path, 4)
    looked_at, other, failed = list(make_plan(make_suite({**BASE, "seeds": [1, 2, 3]})).trials.values())[:3]
    feeding = list(plan.observations)
    for trial, status in ((looked_at, "ok"), (other, "ok"), (failed, "diverged")):
        store.write(Outcome(planned_row(trial) | {"status": status}), [])
    record = failed_record(looked_at, feeding[0], None, "ok") | {"values": '{"relearning_area": 0.25}'}
    store.write_observations([record])
    rows = search_rows(store, feeding)
    assert set(rows) == {looked_at.id, failed.id}, "what was not looked at is to be run again"
    assert rows[looked_at.id]["relearning_area"] == 0.25
    assert set(search_rows(store, [])) == {looked_at.id, other.id, failed.id}
    again, _ = searched(tmp_path, 40)
    assert set(search_rows(store, list(again.observations))) == {failed.id}, "other options are another observation"


def test_tuned_by_other_observations_is_another_configuration(tmp_path):
    configurations = [
        {trial.configuration for trial in searched(tmp_path, steps)[0].trials.values() if trial.method == "ft"}
        for steps in (4, 40)
    ]
    assert not configurations[0] & configurations[1]
    plain = [
        {
            trial.configuration
            for trial in make_plan(make_suite({**BASE, "search": {"trials": 2}, "observations": asked})).trials.values()
        }
        for asked in ([], "relearn_benign")
    ]
    assert plain[0] == plain[1], "what no objective reads tells nothing apart"
