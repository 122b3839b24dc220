"""The search as it runs: every method on equal terms, the same choice whatever the order, and going on after a kill."""

import json
import math
import os
import random
import signal
import subprocess
import time

import pytest
import yaml

from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.tuning import Tuning, planned_search
from mubench_ray.results.observations import load_results
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from tests.conftest import outcome_columns
from tests.engine.test_run import finish, mubench, settle

SUITE = {
    "name": "searched",
    "tasks": {"name": "digits", "subset": 300},
    "models": "cnn-small",
    "methods": ["original", "retrain", "ft", {"name": "neggrad_plus", "epochs": 1}],
    "ratios": 10,
    "seeds": [1, 2],
    "lrs": [1e-4, 1e-2],
    "training": {"epochs": 2},
}


def suite(**search):
    return make_suite({**SUITE, "search": {"seeds": [101], **search}})


def landscape(trial) -> dict:
    """A row as a trial would leave it, with a known best learning rate of 1e-3."""
    gap = abs(math.log10(trial.lr) + 3) / 4 + 0.01 * trial.hyperparameters.get("epochs", 1)
    found = {"retain_gap": gap, "forget_gap": gap, "validation_gap": gap, "indisc_validation": 1 - gap}
    return {"status": "ok", "flos": 1e6, "seconds": 0.5, **found}


def drive(tuning: Tuning, order) -> Tuning:
    """Run what the search asks for until nothing is missing, in an order of one's own."""
    while missing := [name for name in tuning.search_trials if name not in tuning.rows]:
        trial_id = order(missing)
        tuning.ended(trial_id, landscape(tuning.search_trials[trial_id]))
    return tuning


@pytest.mark.parametrize("strategy", ["grid", "random", "optuna"])
def test_every_method_gets_the_same_number_and_controls_none(strategy):
    tuning = drive(Tuning(suite(strategy=strategy, trials=6, sweeps=2, generation=3), {}), min)
    assert tuning.complete
    choices = {each["method"]: each for each in tuning.choices(tuning.rows)}
    tried = {name: each["configurations"] for name, each in choices.items()}
    assert tried == {"original": 0, "retrain": 0, "ft": 12, "neggrad_plus": 12}
    assert choices["ft"]["flos"] == choices["ft"]["trials"] * 1e6
    assert {trial.seed for trial in tuning.search_trials.values()} == {101}
    assert {trial.seed for trial in tuning.reported.values()} == {1, 2}
    assert len(tuning.search_trials) <= planned_search(tuning.suite)
    assert len(tuning.reported) == len(make_plan(tuning.suite).trials)


def test_the_same_search_whatever_the_order_in_which_trials_end():
    asked = suite(strategy="optuna", trials=12, generation=4)
    first = drive(Tuning(asked, {}), min)
    other = drive(Tuning(asked, {}), random.Random(0).choice)
    assert first.search_trials.keys() == other.search_trials.keys()
    assert first.choices(first.rows) == other.choices(other.rows)


def test_a_search_goes_on_from_its_rows():
    asked = suite(strategy="optuna", trials=12, generation=4)
    whole = drive(Tuning(asked, {}), min)
    half = dict(list(whole.rows.items())[:11])
    again = Tuning(asked, half)
    assert not again.complete
    assert drive(again, max).choices(again.rows) == whole.choices(whole.rows)
    assert again.search_trials.keys() == whole.search_trials.keys()


def test_optuna_learns():
    """Its last generations lie nearer the best learning rate than its first, random one."""
    tuning = drive(Tuning(suite(strategy="optuna", trials=60, hyperparameters="lr"), {}), min)
    rates = [abs(math.log10(t.lr) + 3) for t in tuning.search_trials.values() if t.method == "ft"]
    assert sum(rates[-20:]) / 20 < sum(rates[:10]) / 10


def test_where_nothing_is_usable_the_given_configuration_is_reported():
    tuning = Tuning(suite(strategy="random", trials=2), {})
    for trial_id in list(tuning.search_trials):
        tuning.ended(trial_id, None)
    choice = next(each for each in tuning.choices(tuning.rows) if each["method"] == "ft")
    assert (choice["usable"], choice["loss"], choice["lr"]) == (0, None, 1e-4)
    assert choice["hyperparameters"] == make_plan(tuning.suite).suite.methods[2].configured().hyperparameters()


def test_a_killed_search_is_completed_with_the_same_choices(tmp_path):
    """kill -9 of the driver amid the search: the same command ends with the tables of an undisturbed run at another concurrency."""
    search = {"strategy": "optuna", "trials": 4, "generation": 2, "seeds": [101]}
    content = {**SUITE, "seeds": [1], "search": search}
    file, alone = tmp_path / "suite.yaml", tmp_path / "alone.yaml"
    file.write_text(yaml.safe_dump(content))
    alone.write_text(yaml.safe_dump({**content, "resources": {"concurrency": 1}}))
    artifacts = tmp_path / "artifacts"
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    output = finish("run", alone, "--out", undisturbed, "--artifacts", artifacts)
    assert "Leaderboard" in output

    process = mubench(
        "run", file, "--out", out, "--artifacts", artifacts,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None and len(Store(out / "search").finished()) < 3:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    settle(out / "search")
    finish("run", file, "--out", out, "--artifacts", artifacts)
    for part in ("search", "."):
        assert outcome_columns(load_results(out / part)) == outcome_columns(load_results(undisturbed / part))
    chosen, expected = (
        [
            {k: v for k, v in each.items() if k != "seconds"}
            for each in json.loads((d / "search/chosen.json").read_text())["choices"]
        ]
        for d in (out, undisturbed)
    )
    assert chosen == expected
    assert len(load_results(out / "search")) == 8 and len(load_results(out)) == 4
    lr = {each["method"]: each["lr"] for each in chosen}
    assert {row["method"]: row["lr"] for row in load_results(out).to_pylist()} == lr
    assert "8 of at most 8 trials done" in finish("status", out)
