"""What a trial cost, with tuning charged, and whose seconds are compared: numbers that are computed by hand."""

from __future__ import annotations

import json
import math

import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import search_rows
from mubench_ray.report.frontier import CHARGED, COST
from mubench_ray.report.load import load
from mubench_ray.report.report import make_report
from mubench_ray.report.sections import efficiency_block, over_pairs
from mubench_ray.report.tuning import tuning_block
from mubench_ray.results.folder import Folder
from mubench_ray.results.score import score
from mubench_ray.results.store import Outcome
from mubench_ray.status import NO_STEP
from mubench_ray.suite import make_suite
from mubench_ray.trials.observing import Wanted
from mubench_ray.trials.rows import planned_row

METRICS = ["flos_share", "retention_deviation", "retrain_time_efficiency", "test_accuracy"]
TERMS = {"device": "cpu", "compute": "fp32", "execution": "eager", "workers": 1}
BASE = {
    "name": "t",
    "tasks": "digits",
    "models": "cnn-small",
    "methods": ["retrain", "original", {"name": "ft"}, {"name": "scrub"}],
    "ratios": 5,
    "seeds": [1, 2, 3],
    "lrs": [1e-4, 1e-3],
}
SEARCH = {"search": {"strategy": "random", "trials": 2, "seeds": [101]}}
COSTS = {
    "retrain": {"flos": 100.0, "seconds": 10.0, "flos_share": 1.0, "retention_deviation": 0.2},
    "original": {"flos": 0.0, "seconds": 0.0, "flos_share": 0.0, "retention_deviation": 0.9},
    "ft": {"flos": 10.0, "seconds": 2.0, "flos_share": 0.1, "retention_deviation": 0.1},
    "scrub": {"flos": 20.0, "seconds": 4.0, "flos_share": 0.2, "retention_deviation": 0.05},
}


def fill(folder, of=None, **changes):
    """Rows of a suite; ``of``: columns by method."""
    for trial in make_plan(make_suite({**BASE, **changes})).trials.values():
        row = planned_row(trial) | {"status": "ok", "retrain_flos": 100.0, "retrain_seconds": 10.0} | TERMS
        row |= COSTS[trial.method] | (of or {}).get(trial.method, {})
        folder.store.write(Outcome(row), METRICS)


def bill(flos, seconds, terms=("cpu, fp32, eager",), **more):
    return {"flos": flos, "seconds": seconds, "terms": list(terms), "unknown": 0} | more


def chosen(folder, **of):
    """``search/chosen.json``: the bills of the methods' trials and networks."""
    tuned = {t.method: t for t in make_plan(make_suite({**BASE, **SEARCH})).trials.values()}
    choices = [
        {"configuration": tuned[method].configuration, "task": "digits", "model": "cnn-small", "method": method}
        | {"ratio": 5.0, "forget_seed": 42, "trials": 2, "configurations": 2, "usable": 1, "loss": 0.5, "lr": 1e-3}
        | {"hyperparameters": {}, "ends": {"diverged": 1, "ok": 1}, "networks": networks}
        | trials
        for method, (trials, networks) in of.items()
    ]
    content = {
        "search": {"strategy": "random", "seeds": [101]},
        "choices": choices,
        "networks": bill(120.0, 12.0, number=2),
    }
    folder.store.write_text("search/chosen.json", json.dumps(content))


def line(folder, method):
    return next(row for row in make_report(folder.root).board.to_pylist() if row["method"] == method)


def test_a_tuned_method_pays_its_trials_and_the_networks_of_the_selection_seeds(folder):
    fill(folder, **SEARCH)
    chosen(folder, ft=(bill(30.0, 6.0), bill(120.0, 12.0, number=2)), scrub=(bill(0.0, 0.0), bill(0.0, 0.0, number=0)))
    ft, scrub, retrain, original = (line(folder, name) for name in ("ft", "scrub", "retrain", "original"))
    assert ft["flos_share_with_tuning"] == pytest.approx((10 + 30 + 120) / 100)
    assert ft["flos_efficiency"] == 10 and ft["flos_efficiency_with_tuning"] == pytest.approx(100 / 160)
    assert ft["retrain_time_efficiency_with_tuning"] == pytest.approx(10 / (2 + 6 + 12))
    assert scrub["flos_share_with_tuning"] == pytest.approx(0.2)
    assert (retrain["flos_share_with_tuning"], original["flos_share_with_tuning"]) == (1.0, 0.0)
    assert original["flos_efficiency"] is None
    assert ft["flos_share"] == pytest.approx(0.1), "what unlearning itself cost stays beside it"


def test_on_the_frontier_with_tuning_a_retrain_beats_what_was_dearer_to_tune(folder):
    fill(folder, {"ft": {"retention_deviation": 0.3}}, **SEARCH)
    chosen(folder, ft=(bill(300.0, 6.0), bill(120.0, 12.0)), scrub=(bill(1.0, 1.0), bill(0.0, 0.0)))
    scopes = {row["method"]: row for row in make_report(folder.root).scopes.to_pylist()}
    name = "retention_deviation_dominated"
    assert {method: row[name] for method, row in scopes.items() if method != "original"} == {
        "retrain": True, "ft": False, "scrub": False,
    }  # fmt: skip
    assert {m: row[f"{name}_with_tuning"] for m, row in scopes.items() if m != "original"} == {
        "retrain": True, "ft": True, "scrub": False,
    }  # fmt: skip
    assert scopes["ft"][COST] == pytest.approx(0.1) and scopes["ft"][CHARGED] == pytest.approx(4.3)


def test_without_a_search_nothing_is_said_of_tuning(folder):
    fill(folder, lrs=1e-3)
    results = load(folder.root)
    assert not any(name.endswith("_with_tuning") for name in results.metrics) and "flos_efficiency" in results.metrics
    assert not any(table.rows for table in tuning_block(make_report(folder.root)).tables)


def test_a_choice_that_does_not_say_what_its_networks_cost_charges_nothing(folder):
    """Of an earlier release: its cost of tuning is not the whole."""
    fill(folder, **SEARCH)
    chosen(folder, ft=(bill(30.0, 6.0), {}))
    content = folder.store.read_object("search/chosen.json")
    for choice in content["choices"]:
        del choice["networks"], choice["terms"], choice["unknown"], choice["ends"]
    folder.store.write_text("search/chosen.json", json.dumps(content))
    report = make_report(folder.root)
    assert "flos_share_with_tuning" not in report.results.metrics
    assert tuning_block(report).tables[0].rows


def test_seconds_of_tuning_on_other_terms_are_not_charged(folder):
    fill(folder, **SEARCH)
    chosen(
        folder,
        ft=(bill(30.0, 6.0, ["NVIDIA H100, tf32, eager"]), bill(120.0, 12.0)),
        scrub=(bill(1.0, None, ["a", "b"]), bill(1.0, 1.0)),
    )
    ft, scrub = line(folder, "ft"), line(folder, "scrub")
    assert ft["retrain_time_efficiency_with_tuning"] is scrub["retrain_time_efficiency_with_tuning"] is None
    assert ft["flos_share_with_tuning"] == pytest.approx(1.6)


def test_the_block_says_how_sweeps_become_one_configuration_and_what_of_it_is_shared(folder):
    fill(folder, **SEARCH)
    chosen(
        folder, ft=(bill(30.0, 6.0) | {"options": {"batch_size": 64, "weight_decay": 5e-4}}, bill(1.0, 1.0, number=2))
    )
    content = folder.store.read_object("search/chosen.json")
    reported = make_report(folder.root).results.trials["seed"].to_pylist()[0]
    objectives = {"retain_gap": 1.0, "forget_gap": 0.5}
    content["search"] = {"strategy": "nsga3", "seeds": [reported, 777], "objectives": objectives, "chosen_by": "norm"}
    content["search"] |= {"sweeps": 2, "sweeps_on": "own_seed"}
    folder.store.write_text("search/chosen.json", json.dumps(content))
    block = tuning_block(make_report(folder.root))
    for said in (
        f"NSGA-III search on the selection seeds [{reported}, 777], of which [{reported}] are reported too",
        "judged by the Euclidean norm of 1 retain_gap, 0.5 forget_gap",
        "Of the configurations of all 2 sweeps together the best one is taken, each judged on the seed of its own sweep alone",
    ):
        assert said in block.note
    assert block.tables[0].rows[0][3] == "lr 1e-3, batch_size 64, weight_decay 5e-4"


def test_the_block_says_what_became_of_the_trials_and_what_is_not_known(folder):
    fill(folder, **SEARCH)
    networks = bill(120.0, 12.0, number=2)
    chosen(folder, ft=(bill(30.0, 6.0, unknown=1), networks), scrub=(bill(1.0, None, ["a", "b"]), networks))
    report = make_report(folder.root)
    (table,) = tuning_block(report).tables
    told = {row[1].rstrip("°†‡"): row[5:] for row in table.rows}
    assert told["ft"] == ["2, 1 diverged", "≥ 3.00e+01", "≥ 6.00 s", "1.20e+02 (2)"]
    assert told["scrub"][2] == "on 2 kinds of terms"
    assert "In all 4 search trials, 3.10e+01 FLOs" in tuning_block(report).note
    assert any("1 of 2 search trials" in reason for reason in report.results.refused)


def test_a_trial_that_took_no_step_is_no_value_of_its_line(folder):
    fill(folder)
    fill(
        folder,
        {"ft": {"status": "truncated", "error": NO_STEP, "test_accuracy": None, "flos": 7.0}},
        methods="ft",
        seeds=[4, 5],
    )
    row = line(folder, "ft")
    assert (row["n"], row["planned"], row["truncated"], row["ok"]) == (3, 5, 2, 3)
    assert row["flos_share"] == pytest.approx(0.1) and row["flos_efficiency"] == pytest.approx(10)


def test_nor_is_one_of_an_earlier_release_that_spent_nothing(folder):
    fill(folder, {"ft": {"test_accuracy": 0.5}})
    fill(folder, {"ft": {"status": "truncated", "test_accuracy": 0.9, "flos": 0.0}}, methods="ft", seeds=[4, 5])
    assert (line(folder, "ft")["n"], line(folder, "ft")["test_accuracy"]) == (3, 0.5)


def test_lines_without_seconds_say_why(folder):
    fill(folder, lrs=1e-3)
    fill(folder, {"ft": {"device": "NVIDIA H100", "compute": "tf32"}}, methods="ft", seeds=[4], lrs=1e-3)
    results = load(folder.root)
    assert all(
        math.isnan(v) for v, m in zip(results.values("seconds"), results.trials["method"].to_pylist()) if m == "ft"
    )
    (reason,) = results.refused
    assert reason == (
        "digits, cnn-small: seconds of ft have no mean, since trials of one line ran on several terms "
        "(NVIDIA H100, tf32, eager; cpu, fp32, eager)."
    )


def test_what_rows_say_of_their_retrains_seconds_is_told_once(folder):
    told = json.dumps(["seconds are neither compared with the retrain's nor capped: the retrain ran elsewhere"])
    fill(folder, {"ft": {"marks": told, "retrain_seconds": None}}, lrs=1e-3)
    (reason,) = load(folder.root).refused
    assert reason.startswith("digits, cnn-small: of 3 trials seconds are neither compared") and "RTE by FLOs" in reason


def test_a_mark_of_something_else_says_nothing_of_costs(folder):
    fill(folder, {"ft": {"marks": json.dumps(["f_U has no finite loss on 3 of 122 examples of D_F"])}}, lrs=1e-3)
    (reason,) = load(folder.root).refused
    assert reason == "digits, cnn-small: of 3 trials f_U has no finite loss on 3 of 122 examples of D_F."


def test_workers_are_terms_too(folder):
    fill(folder, methods="ft", lrs=1e-3)
    fill(folder, {"ft": {"workers": 4}}, methods="ft", seeds=[4], lrs=1e-3)
    assert all(math.isnan(value) for value in load(folder.root).values("seconds"))


def test_an_earlier_releases_rte_in_two_precisions_is_not_shown(folder):
    half = {"unlearning": {"precision": "bf16"}, "lrs": 1e-3, "methods": ["retrain", "ft"]}
    fill(folder, {name: {"retrain_time_efficiency": 3.0} for name in ("ft", "retrain")}, **half)
    assert line(folder, "ft")["retrain_time_efficiency"] is None
    assert line(folder, "retrain")["retrain_time_efficiency"] == 3.0
    both = half | {"training": {"precision": "bf16"}, "tasks": {"name": "digits", "subset": 500}}
    fill(folder, {name: {"retrain_time_efficiency": 3.0} for name in ("ft", "retrain")}, **both)
    found = {(r["method"], r["task"]): r["retrain_time_efficiency"] for r in make_report(folder.root).board.to_pylist()}
    assert sorted(map(str, found.values())) == ["3.0", "3.0", "3.0", "None"]


def test_seconds_beside_those_on_other_terms_say_on_which(folder):
    fill(folder, {"ft": {"device": "NVIDIA H100", "compute": "tf32"}}, lrs=1e-3)
    report = make_report(folder.root)
    rows = {row[0].rstrip("°†‡"): row[1] for row in over_pairs(report, report.results.column["seconds"]).rows}
    assert rows["ft"].endswith("(NVIDIA H100, tf32, eager)") and rows["scrub"].endswith("(cpu, fp32, eager)")
    flos = {row[0].rstrip("°†‡"): row[1] for row in over_pairs(report, report.results.column["flos_efficiency"]).rows}
    assert flos["ft"].startswith("10.00") and "eager" not in flos["ft"]
    assert "RTE by FLOs" in [table.caption for table in efficiency_block(report).tables]


def test_seconds_on_the_same_terms_need_no_word(folder):
    fill(folder, lrs=1e-3)
    report = make_report(folder.root)
    assert all("eager" not in cell for row in over_pairs(report, report.results.column["seconds"]).rows for cell in row)


def test_where_no_step_was_taken_nothing_is_scored_observed_or_run_again(folder):
    """Not by a search whose objective reads an observation, either: it would ask for ever."""
    fill(folder, {"ft": {"status": "truncated", "error": NO_STEP, "flos": 7.0}}, methods="ft", lrs=1e-3)
    found = score(folder.root, "flos_share").to_pylist()
    assert {(row["value"], row["reason"]) for row in found} == {(None, f"the trial's status is truncated: {NO_STEP}")}
    assert Folder(folder.store).finished == []
    assert len(search_rows(folder.store, [Wanted.now("knowledge_gap")])) == 3
    fill(folder, methods="scrub", lrs=1e-3)
    assert len(search_rows(folder.store, [Wanted.now("knowledge_gap")])) == 3, "those that ended are to be looked at"
