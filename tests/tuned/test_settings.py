"""Tuned settings: written from a search, found again where they hold, refused where they do not; a trial at them is the one that would be typed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.submit import working_folder
from mubench_ray.engine.tuned import TUNED, keep, said_of
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.methods import METHODS
from mubench_ray.metrics import METRICS
from mubench_ray.report.costs import bills, charged
from mubench_ray.report.marks import TOLD
from mubench_ray.report.report import make_report
from mubench_ray.report.tuned import tuned_block
from mubench_ray.results.marks import TUNED as MARK
from mubench_ray.results.marks import of_name
from mubench_ray.results.store import Outcome, Store
from mubench_ray.suite import load_suite, make_suite, only
from mubench_ray.trials.rows import planned_row
from mubench_ray.tuned.collect import collect, update
from mubench_ray.tuned.settings import Settings, all_shipped, read, save
from tests.tuned.conftest import ON, SEARCHED, reporting, searched


def plan_of(content: dict):
    return make_plan(make_suite(content))


def of(plan, method: str = "ft") -> list:
    return [trial for trial in plan.trials.values() if trial.method == method]


# From a search


def test_what_a_search_chose_is_written_with_its_cost_seeds_and_versions(found):
    assert set(found) == {("ft", 5.0), ("ft", 20.0), ("salun", 5.0), ("salun", 20.0)}, "nothing was searched of SISA"
    each = found["ft", 20.0]
    assert (each.trial.lr, found["ft", 5.0].trial.lr) == (1e-3, 1e-2)
    assert each.seeds == [101, 102] and each.trial.seed == 101 and each.given == {}
    assert each.trial.versions["method"] == METHODS.get("ft").version == 2
    assert each.metrics == {name: METRICS.get(name).version for name in SETTINGS_OBJECTIVES}
    assert each.cost["trials"] == 6 and each.cost["flos"] == 6e6
    assert each.cost["networks"]["number"] == 4 and each.cost["networks"]["flos"] == 2 * (5e7 + 4e7)
    assert each.date == "2026-11-28" and each.stale() == ""
    assert found["salun", 5.0].given == {"form": "mixed", "epochs": 2}


SETTINGS_OBJECTIVES = ("retain_gap", "forget_gap", "validation_gap", "indisc_validation")


def test_a_file_is_read_as_it_was_written_and_keeps_what_others_wrote(found, file, folder, tmp_path):
    assert {each.key for each in read(file)} == {each.key for each in found.values()}
    assert {each.key: each.plain() for each in read(file)} == {each.key: each.plain() for each in found.values()}
    path = tmp_path / "more.json"
    other = found["ft", 5.0].model_copy(update={"date": "2020-01-01"})
    save(path, [other, Settings.model_validate(other.plain() | {"trial": other.plain()["trial"] | {"subset": 200}})])
    update(path, folder.root, drop_stale=False)
    dates = {(each.trial.subset, each.trial.method, each.trial.ratio): each.date for each in read(path)}
    assert dates[300, "ft", 5.0] == "2026-11-28", "one of its key takes its place"
    assert dates[200, "ft", 5.0] == "2020-01-01" and len(dates) == 5


def test_a_folder_gives_what_its_search_has_chosen_and_says_what_is_lacking(tmp_path, folder):
    store = Store(tmp_path)
    store.create({"suite": "t", "trials": 0})
    with pytest.raises(MubenchError, match="holds no search"):
        collect(store)
    store.part("search").create({"suite": "t", "trials": 0})
    content = folder.part("search").read_object("chosen.json")
    store.part("search").write_text(
        "chosen.json", json.dumps(content | {"complete": False, "choices": content["choices"][:1]})
    )
    assert "has not ended" in collect(store)[1][0]
    for choice in content["choices"]:
        choice["usable"] = 0
    store.part("search").write_text("chosen.json", json.dumps(content))
    found, none = collect(store)
    assert not found and len(none) == 4 and "not one of 3 configurations was usable" in none[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "not what"), ("{", "not what"), ('{"settings": [{}]}', r"settings\[0\].trial: Field required"), (None, "cannot be read")],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SuiteError, match=f"mine.json.*{said}"):
        plan_of(reporting(str(path)))


# In a suite


def test_a_trial_at_tuned_settings_is_the_one_that_would_be_typed(file):
    """Also where ratios have other rates: one line of the report, as with a search, and no hyperparameter is said."""
    plan = plan_of(reporting(file))
    typed = [
        *of(plan_of(reporting(None, lrs=1e-2, ratios=5))),
        *of(plan_of(reporting(None, lrs=1e-3, ratios=20))),
    ]
    assert sorted(trial.id for trial in of(plan)) == sorted(trial.id for trial in typed)
    assert len({trial.configuration for trial in of(plan)}) == 1
    assert len({trial.configuration for trial in typed}) == 2
    assert of(plan)[0].tuned.keys() == {"settings"} and all(trial.tuned is None for trial in of(plan, "retrain"))
    again = {name: trial.model_dump() for name, trial in plan_of(reporting(file)).trials.items()}
    assert again == {name: trial.model_dump() for name, trial in plan.trials.items()}


def test_the_plan_says_where_settings_come_from_and_on_what_they_were_found(file):
    (said,) = said_of(plan_of(reporting(file, ratios=20)).settled)
    assert said.startswith(f"of digits x cnn-small, from {file}, 2026-11-28: grid search on seeds 101, 102, which are")
    assert said.endswith("on class_balanced, 20 %: ft")
    plan = plan_of(reporting(file, ratios=10, sampler="uniform"))
    (said,) = said_of(plan.settled)
    assert "on class_balanced, 5 %, another forget set than uniform, 10 % here" in said or "20 %, another" in said


def test_the_nearest_ratio_by_its_logarithm_is_taken(file):
    assert {trial.lr for trial in of(plan_of(reporting(file, ratios=9)))} == {1e-2}
    assert {trial.lr for trial in of(plan_of(reporting(file, ratios=12)))} == {1e-3}


def test_of_a_method_in_another_form_there_are_none(file):
    def rates(**given):
        return {
            trial.lr for trial in of(plan_of(reporting(file, ratios=20, methods=[{"name": "salun", **given}])), "salun")
        }

    assert rates(form="mixed", epochs=2) == {1e-3}
    with pytest.raises(
        SuiteError, match=r"no tuned settings of digits x cnn-small x salun.*epochs 2, form mixed.*by hand"
    ):
        rates()
    with pytest.raises(SuiteError, match="form mixed"):
        rates(form="passes", epochs=2)
    with pytest.raises(SuiteError, match="epochs 2"):
        rates(form="mixed", epochs=3)
    # What is set by hand to what the settings have is no other form.
    default = METHODS.get("ft").defaults()["epochs"]
    assert of(plan_of(reporting(file, methods=[{"name": "ft", "epochs": default}])))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": "digits"}, "subset 300 where this suite has the default"),
        ({"training": {"epochs": 3}}, "training.epochs 2 where this suite has 3"),
        ({"unlearning": {"batch_size": 64}}, "unlearning.batch_size the default where this suite has 64"),
        ({"budget": {"flos": 0.5}}, "budget.flos the default where this suite has 0.5"),
        ({"models": "resnet18"}, "of digits there are some for cnn-small"),
        ({"methods": ["sisa"]}, "there are none of sisa on this model"),
    ],
)
def test_where_there_are_none_the_suite_is_refused_and_told_what_differs(file, changes, said):
    with pytest.raises(SuiteError, match="no tuned settings of .*" + said.replace(".", r"\.")) as refused:
        plan_of(reporting(file, **changes))
    assert "tuned: false" in str(refused.value)


def test_where_known_runs_the_others_as_the_suite_gives_them_and_says_so(file):
    own = {"files": [file], "missing": "given"}
    plan = plan_of(reporting(None, methods=["retrain", "ft", "sisa"], tuned=own, lrs=[1e-4, 5e-4], ratios=20))
    assert {trial.lr for trial in of(plan)} == {1e-3} and len(of(plan, "sisa")) == 2
    (untuned,) = plan.untuned
    assert (untuned.what, untuned.trials) == ("digits x cnn-small x sisa, 20 %", 2) and "none of sisa" in untuned.reason
    assert make_suite(reporting(None, tuned="where-known")).tuned.missing == "given"


def test_a_method_may_say_otherwise_than_the_suite(file):
    content = reporting(file, methods=[{"name": "ft", "tuned": False}, {"name": "salun"}], lrs=7e-4)
    content["methods"][1] |= {"form": "mixed", "epochs": 2}
    plan = plan_of(content)
    assert {trial.lr for trial in of(plan)} == {7e-4} and {trial.lr for trial in of(plan, "salun")} == {1e-2, 1e-3}
    alone = plan_of(reporting(None, methods=["ct", {"name": "ft", "tuned": file}], lrs=7e-4))
    assert {trial.lr for trial in of(alone, "ct")} == {7e-4} and {trial.lr for trial in of(alone)} == {1e-2, 1e-3}


def test_typed_and_tuned_at_the_same_settings_is_one_entry_too_many(file):
    methods = [{"name": "ft", "tuned": file}, {"name": "ft", "lrs": 1e-3}]
    with pytest.raises(SuiteError, match="named twice"):
        plan_of(reporting(None, methods=methods, ratios=20))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"seeds": [7]}}, "both searched and to run at tuned settings"),
        ({"methods": [{"name": "ft", "lrs": 1e-3}]}, "lrs of ft are set by hand"),
        ({"tuned": {"file": "x"}}, r"tuned\..*file: unknown key"),
        ({"tuned": 3}, "tuned"),
    ],
)
def test_what_cannot_go_with_tuned_settings_is_refused(file, changes, said):
    with pytest.raises(SuiteError, match=said):
        make_suite(reporting(file, **changes))


@pytest.mark.parametrize("reported", [{"seeds": [1, 102]}, {"training_seeds": [101]}])
def test_selection_seeds_are_never_reported(file, reported):
    shared = 102 if "seeds" in reported else 101
    with pytest.raises(SuiteError, match=f"chosen on seed {shared}, which is reported here"):
        plan_of(reporting(file, **reported))


# Stale


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda patch: patch.setattr(METHODS.get("ft"), "version", 9), "method ft was version 2 and is 9"),
        (lambda patch: patch.setitem(METRICS._things, "retain_gap", replace(METRICS.get("retain_gap"), version=9)), "metric retain_gap was version 1 and is 9"),
        (lambda patch: patch.setattr("mubench_ray.tasks.digits.Digits.version", 9), "task digits was version 1 and is 9"),
    ],
)  # fmt: skip
def test_settings_of_a_component_whose_version_moved_are_stale(file, found, monkeypatch, tmp_path, change, said):
    assert found["ft", 20.0].stale() == ""
    change(monkeypatch)
    assert said in found["ft", 20.0].stale()
    with pytest.raises(
        SuiteError, match=f"no tuned settings of digits x cnn-small x ft: those of .* are stale: {said}"
    ):
        plan_of(reporting(file, ratios=20))
    path = tmp_path / "mine.json"
    save(path, found.values())
    told = update(path, None, drop_stale=True)
    assert len(read(path)) == len(found) - len(told) < len(found) and all("dropped" in line for line in told)


def test_settings_that_name_what_is_gone_are_stale(found):
    content = found["ft", 20.0].plain()
    content["trial"]["hyperparameters"]["passes"] = 3
    assert "has no hyperparameter 'passes'" in Settings.model_validate(content).stale()
    content["trial"] |= {"method": "forgotten"}
    assert "Unknown method 'forgotten'" in Settings.model_validate(content).stale()


# What they cost


def test_tuned_settings_bring_their_cost_and_a_mark(file, tmp_path, found):
    """Row by row and charged by hand; a folder that two suites were run into keeps what both took."""
    plan = plan_of(reporting(file))
    store = Store(tmp_path)
    store.create({"suite": "t", "trials": len(plan.trials), "provenance": {}})
    keep(store, plan.settled)
    keep(store, plan_of(reporting(file, methods=["ft"], forget_seeds=7)).settled)
    assert len(store.read_object(TUNED)["choices"]) == 4
    keep(store, plan.settled)
    assert len(store.read_object(TUNED)["choices"]) == 4
    spent = {
        "flos": 10.0,
        "seconds": 2.0,
        "retrain_flos": 100.0,
        "retrain_seconds": 10.0,
        "flos_share": 0.1,
        "test_accuracy": 0.9,
    }
    for trial in plan.trials.values():
        store.write(Outcome(planned_row(trial) | {"status": "ok"} | ON | spent), ["flos_share", "test_accuracy"])
    report = make_report(tmp_path)
    line = {(row["method"], row["ratio"]): row for row in report.board.to_pylist()}
    cost = found["ft", 5.0].cost
    assert cost["flos"] + cost["networks"]["flos"] == 6e6 + 2 * 9e7
    assert line["ft", 5.0]["flos_share_with_tuning"] == pytest.approx((10 + 6e6 + 18e7) / 100)
    assert line["ft", 5.0]["retrain_time_efficiency_with_tuning"] == pytest.approx(10 / (2 + 6 * 0.5 + 4 * 3.0))
    assert line["retrain", 5.0]["flos_share_with_tuning"] == pytest.approx(0.1), "a control is charged nothing"
    flos, _ = bills(report.results.trials, charged(store))
    assert sorted(set(flos.tolist())) == [0.0, 6e6 + 18e7]
    marked = {row["method"]: MARK in of_name(row) for row in report.board.select([*TOLD]).to_pylist()}
    assert marked == {"ft": True, "retrain": False, "original": False}
    assert all((MARK in of_name(row)) == (row["method"] == "ft") for row in store.read("trials").to_pylist())
    block = tuned_block(report)
    assert "selection seeds [101, 102]; the selection seeds are not the reporting seeds" in block.note
    assert [row[2:4] for row in block.tables[0].rows] == [
        ["lr 0.01⊣, epochs 5", "class_balanced, 5 %"], ["lr 1e-3, epochs 5", "class_balanced, 20 %"]
    ]  # fmt: skip


# The command line and the cluster


def test_a_job_takes_its_files_of_settings_along(file):
    content = reporting(file, methods=["ft", {"name": "salun", "tuned": file, "form": "mixed", "epochs": 2}])
    with working_folder(make_suite(content), content) as where:
        sent = yaml.safe_load(Path(where, "suite.yaml").read_text())
        files = [*sent["tuned"]["files"], *sent["methods"][1]["tuned"]["files"]]
        assert len(set(files)) == 2 and all(len(read(f"{where}/{name}")) == 4 for name in files)
        make_suite(sent)


def test_the_command_line_writes_lists_and_drops(folder, tmp_path, monkeypatch, repository):
    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
        assert done.exit_code == code, done.output + str(done.exception)
        return done.output + str(done.exception or "")

    path = tmp_path / "mine.json"
    assert "4 settings written" in (told := said("tuned", folder.root, "--out", path)) and "lr 1e-3, epochs 5" in told
    assert "digits, cnn-small, salun, epochs 2, form mixed, class_balanced, 5 %" in said("tuned", "--out", path)
    assert "Say --out FILE" in said("tuned", folder.root, code=1)
    monkeypatch.setattr(METHODS.get("ft"), "version", 9)
    assert "stale digits, cnn-small, ft, class_balanced, 5 %: method ft was version 2 and is 9" in said(
        "tuned", "--out", path, code=1
    )
    assert "dropped: method ft" in said("tuned", "--out", path, "--drop-stale") and len(read(path)) == 2
    planned = said("plan", repository / "jobs" / "tuned_digits.yaml", "--method", "npo")
    assert "15 trials" in planned and "npo" in planned and "salun" not in planned


def test_one_method_of_a_suite_is_run_with_its_controls():
    suite = make_suite(SEARCHED)
    assert [entry.name for entry in only(suite, ["SalUn"]).methods] == ["original", "retrain", "salun"]
    assert only(suite, []) == suite
    with pytest.raises(SuiteError, match="searched has no method 'ct'"):
        only(suite, ["ct"])


def test_one_methods_settings_take_the_place_of_what_was_there(tmp_path, file):
    """As after a change of one method: searched alone, with the same result as among others."""
    path = tmp_path / "mine.json"
    path.write_text(Path(file).read_text())
    before = {each.key: each.plain() for each in read(path)}
    alone = SEARCHED | {"methods": ["original", "retrain", "ft"]}
    update(path, searched(tmp_path / "alone", alone).root, drop_stale=False)
    assert {each.key: each.plain() for each in read(path)} == before


# What ships


@pytest.mark.parametrize("each", all_shipped(), ids=lambda each: f"{each.name}")
def test_shipped_settings_hold(each):
    """One line where a version has moved: search that method again, or take it out (docs/reproductions.md)."""
    assert each.stale() == "", f"{each.name}: {each.stale()}"
    cls = METHODS.get(each.trial.method)
    assert cls.configure(each.trial.hyperparameters).hyperparameters() == each.trial.hyperparameters
    assert (each.trial.lr is not None) == cls.uses_lr
    assert each.cost["unknown"] == each.cost["networks"]["unknown"] == 0 and each.cost["loss"] < 0.33, (
        "worse than doing nothing"
    )
    assert Settings.model_validate(each.plain()).key == each.key


def test_the_suite_that_found_them_runs_at_them(repository):
    """Every method of jobs/tuned_digits.yaml has its settings: at the suite's own forget set, at the default ones, with nothing in its way."""
    suite = load_suite(repository / "jobs" / "tuned_digits.yaml")
    methods = [{"name": entry.name} for entry in suite.methods]
    plan = plan_of(
        {"name": "t", "tasks": "digits", "models": "cnn-small", "methods": methods, "tuned": True, "ratios": 10}
    )
    assert not plan.left_out and not plan.untuned
    assert {each.trial.method for each in plan.settled} == {entry.name for entry in suite.methods} - {
        "original",
        "retrain",
    }
    assert {each.taken.source for each in plan.settled} == {"package"}
