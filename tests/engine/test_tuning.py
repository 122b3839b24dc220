"""The search as it runs: every method on equal terms, the same choice whatever the order, and going on after a kill."""

import json
import math
import os
import random
import signal
import subprocess
import time
from collections import Counter

import optuna
import pytest
import yaml

from mubench_ray.engine.optuna_sweep import OptunaSweep
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import Work
from mubench_ray.engine.tuning import Tuning, bill, planned_search
from mubench_ray.methods.base import Space
from mubench_ray.results.observations import load_results
from mubench_ray.results.store import Store
from mubench_ray.search import Configuration, Ranges
from mubench_ray.suite import make_suite
from mubench_ray.trial import CONTROLS, Unlearning
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


def made(recipe) -> dict:
    """What an artifact would have cost: an original more than a retrain."""
    on = {"device": "cpu", "compute": "fp32", "execution": "eager"}
    return {"flos": 5e7 if recipe.kind == "original" else 4e7, "seconds": 3.0, "terms": on}


def drive(tuning: Tuning, order) -> Tuning:
    """Run what the search asks for until nothing is missing, in an order of one's own."""
    while missing := [name for name in tuning.search_trials if name not in tuning.rows]:
        trial_id = order(missing)
        tuning.ended(trial_id, landscape(tuning.search_trials[trial_id]))
    return tuning


@pytest.mark.parametrize("strategy", ["grid", "random", "optuna", "nsga3"])
def test_every_method_gets_the_same_number_and_controls_none(strategy):
    searched = {"hyperparameters": ["all", "batch_size", "weight_decay"]}
    tuning = drive(Tuning(suite(strategy=strategy, trials=6, sweeps=2, generation=3, **searched), {}), min)
    assert tuning.complete
    choices = {each["method"]: each for each in tuning.choices(tuning.rows, made)}
    tried = {name: each["configurations"] for name, each in choices.items()}
    assert tried == {"original": 0, "retrain": 0, "ft": 12, "neggrad_plus": 12}
    assert choices["ft"]["flos"] == choices["ft"]["trials"] * 1e6
    assert {trial.seed for trial in tuning.search_trials.values()} == {101}
    assert {trial.seed for trial in tuning.reported.values()} == {1, 2}
    assert len(tuning.search_trials) <= planned_search(tuning.suite)
    tried_with = {trial.unlearning.batch_size for trial in tuning.search_trials.values()}
    assert len(tried_with) > 1 and tried_with <= {64, 128, 256}
    for trial in tuning.reported.values():
        chosen = choices[trial.method]["options"]
        assert trial.unlearning == Unlearning(**chosen) and (trial.method in CONTROLS or len(chosen) == 2)
    assert len(tuning.reported) == len(make_plan(tuning.suite).trials)


def test_sweeps_on_seeds_of_their_own_become_the_one_configuration_of_the_smallest_norm():
    """As in Deep Unlearn's code: of all sweeps together, each configuration judged on its own sweep's seed alone."""
    own = {"sweeps_on": "own_seed", "seeds": [101, 102, 103], "chosen_by": "norm"}
    tuning = drive(Tuning(suite(strategy="random", trials=4, sweeps=3, **own), {}), min)
    assert planned_search(tuning.suite) == len(tuning.search_trials) == 2 * 3 * 4
    assert Counter(trial.seed for trial in tuning.search_trials.values()) == {101: 8, 102: 8, 103: 8}
    weights = tuning.search.objectives

    def norm(trial):
        gap = landscape(trial)["retain_gap"]
        return math.sqrt(sum((weights[name] * gap) ** 2 for name in weights))

    for choice in tuning.choices(tuning.rows, made):
        if choice["configurations"]:
            tried = [trial for trial in tuning.search_trials.values() if trial.method == choice["method"]]
            best = min(tried, key=norm)
            assert (choice["lr"], choice["hyperparameters"]) == (best.lr, best.hyperparameters)
            assert choice["loss"] == pytest.approx(norm(best)) and choice["configurations"] == 12


def test_nsga3_is_optunas_own_asked_for_one_configuration_after_the_other():
    """As Deep Unlearn's code asks, with the sampler's own population of 50, whole generations of ours notwithstanding."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces = {"lr": Space("log_uniform", 1e-5, 1e-1), "batch_size": Space("choice", choices=(64, 128, 256))}
    spaces = {"epochs": Space("integer", 1, 37), **spaces}
    sweep = OptunaSweep(Ranges(spaces, Configuration({}, None)), ["a", "b"], 70, 10, 3, "nsga3")
    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.NSGAIIISampler(seed=3))

    def losses(epochs, lr, size):
        return abs(math.log10(lr) + 3) + epochs / 100, size * lr

    theirs = []
    for _ in range(70):
        trial = study.ask()
        theirs.append(
            (
                trial.suggest_int("epochs", 1, 37),
                trial.suggest_float("lr", 1e-5, 1e-1, log=True),
                trial.suggest_categorical("batch_size", (64, 128, 256)),
            )
        )
        study.tell(trial, losses(*theirs[-1]))
    ours = []
    while asked := sweep.ask():
        found = [(each.hyperparameters["epochs"], each.lr, each.options["batch_size"]) for each in asked]
        sweep.tell([losses(*each) for each in found])
        ours += found
    assert ours == theirs and len(set(ours)) > 60


def test_a_trial_of_the_search_that_is_reported_too_is_run_for_either(tmp_path):
    """Where selection seeds are reporting seeds they are one trial with one id; it was taken for the search's alone, and its row was missing."""
    search = {"seeds": [1], "seeds_shared": True, "strategy": "random", "trials": 2}
    plan, store = make_plan(make_suite({**SUITE, "search": search})), Store(tmp_path / "out")
    store.create({"suite": "searched", "trials": 0})
    for name in ("suite.json", "metrics.json", "methods.json"):
        store.write_text(name, "{}")
    work = Work(plan, store, str(tmp_path / "artifacts"), retry_failed=False)
    handed = list(work.needs(work.missing))
    for name in handed:
        if (job := work.job(name)).part:
            handed += [each for each in work.follow(name, landscape(job.content)) if each not in handed]
    jobs = [job for job in map(work.job, handed) if job.kind == "trial"]
    reported = {job.content.id for job in jobs if not job.part}
    assert reported == set(plan.trials) == set(work.tuning.reported) and len(reported) == 8
    assert len(reported & {job.content.id for job in jobs if job.part}) == 2, "the chosen one of either method"
    assert work.tuning.networks() == {}, "all its networks are reported ones"


def test_the_same_search_whatever_the_order_in_which_trials_end():
    asked = suite(strategy="optuna", trials=12, generation=4)
    first = drive(Tuning(asked, {}), min)
    other = drive(Tuning(asked, {}), random.Random(0).choice)
    assert first.search_trials.keys() == other.search_trials.keys()
    assert first.choices(first.rows, made) == other.choices(other.rows, made)


def test_a_search_goes_on_from_its_rows():
    asked = suite(strategy="optuna", trials=12, generation=4)
    whole = drive(Tuning(asked, {}), min)
    half = dict(list(whole.rows.items())[:11])
    again = Tuning(asked, half)
    assert not again.complete
    assert drive(again, max).choices(again.rows, made) == whole.choices(whole.rows, made)
    assert again.search_trials.keys() == whole.search_trials.keys()


def test_optuna_learns():
    """Its last generations lie nearer the best learning rate than its first, random one."""
    tuning = drive(Tuning(suite(strategy="optuna", trials=60, hyperparameters="lr"), {}), min)
    rates = [abs(math.log10(t.lr) + 3) for t in tuning.search_trials.values() if t.method == "ft"]
    assert sum(rates[-20:]) / 20 < sum(rates[:10]) / 10


def test_a_choice_says_what_of_it_lies_at_the_edge_of_what_was_searched():
    """The best learning rate is 1e-3: an end of the one grid, within the methods' own ranges."""
    found = {}
    for lrs in ([1e-3, 1e-2, 1e-1], "default"):
        asked = make_suite(
            {**SUITE, "lrs": lrs, "search": {"strategy": "grid", "hyperparameters": "lr", "seeds": [101]}}
        )
        tuning = drive(Tuning(asked, {}), min)
        found[str(lrs)] = {c["method"]: (c["lr"], c["edges"], c["searched"]) for c in tuning.choices(tuning.rows, made)}
    grid, own = found.values()
    assert grid["ft"] == (1e-3, ["lr"], {"lr": "in {0.001, 0.01, 0.1}"}) and grid["retrain"] == (None, [], {})
    assert own["ft"] == (pytest.approx(1e-3), [], {"lr": "log_uniform[1e-05, 0.1]"})


def test_where_nothing_is_usable_the_given_configuration_is_reported():
    tuning = Tuning(suite(strategy="random", trials=2), {})
    for trial_id in list(tuning.search_trials):
        tuning.ended(trial_id, None)
    choice = next(each for each in tuning.choices(tuning.rows, made) if each["method"] == "ft")
    assert (choice["usable"], choice["loss"], choice["lr"]) == (0, None, 1e-4)
    assert choice["hyperparameters"] == make_plan(tuning.suite).suite.methods[2].configured().hyperparameters()


def test_the_cost_of_tuning_counts_what_came_to_nothing():
    """Diverged, out of memory, failed, cut before the first step: each with what it had spent; one whose process died left no bill."""
    tuning = Tuning(suite(strategy="random", trials=6), {})
    ends = ["ok", "diverged", "out_of_memory", "failed", "truncated", "lost"]
    on = {"device": "cpu", "compute": "fp32", "execution": "eager", "workers": 1}
    trials = [trial for trial in tuning.search_trials.values() if trial.method == "ft"]
    for trial, end in zip(trials, ends, strict=True):
        row = landscape(trial) if end == "ok" else {"flos": 1e5, "seconds": 0.25, "status": end, "error": "why"}
        tuning.ended(trial.id, None if end == "lost" else row | on)
    drive(tuning, min)
    ft = next(each for each in tuning.choices(tuning.rows, made) if each["method"] == "ft")
    assert (ft["trials"], ft["usable"], ft["unknown"]) == (6, 1, 1)
    assert ft["flos"] == 1e6 + 4 * 1e5 and ft["seconds"] == 0.5 + 4 * 0.25 and ft["terms"] == ["cpu, fp32, eager"]
    assert ft["ends"] == {"diverged": 1, "failed": 2, "ok": 1, "out_of_memory": 1, "truncated": 1}


def test_every_method_is_charged_the_networks_of_the_selection_seeds_in_full():
    tuning = drive(Tuning(suite(strategy="random", trials=2, seeds=[101, 102]), {}), min)
    choices = {each["method"]: each["networks"] for each in tuning.choices(tuning.rows, made)}
    each = {"number": 4, "unknown": 0, "flos": 2 * (5e7 + 4e7), "seconds": 12.0, "terms": ["cpu, fp32, eager"]}
    assert choices["ft"] == choices["neggrad_plus"] == each
    assert choices["original"]["number"] == choices["retrain"]["number"] == 0
    needed = tuning.networks()
    assert {(recipe.kind, recipe.seed) for recipe in needed.values()} == {
        ("original", 101), ("original", 102), ("retrain", 101), ("retrain", 102),
    }  # fmt: skip
    assert bill(map(made, needed.values())) == each, "of all methods together each once"


def test_networks_that_are_gone_or_reported_too():
    asked = suite(strategy="random", trials=2)
    tuning = drive(Tuning(asked, {}), min)
    ft = next(c for c in tuning.choices(tuning.rows, lambda recipe: None) if c["method"] == "ft")
    assert ft["networks"] == {"number": 2, "unknown": 2, "flos": 0, "seconds": 0, "terms": []}
    shared = make_suite({**SUITE, "training_seeds": [101], "search": {"strategy": "random", "trials": 2, "seeds": [7]}})
    tuning = drive(Tuning(shared, {}), min)
    assert {recipe.seed for recipe in tuning.networks().values()} == {7}


def test_seconds_on_several_terms_have_no_sum():
    here = {"flos": 1.0, "seconds": 2.0, "device": "cpu", "compute": "fp32", "execution": "eager"}
    there = here | {"device": "NVIDIA H100", "compute": "tf32", "workers": 2}
    found = bill([here, there, {"flos": 1.0, "seconds": 0.0}])
    assert (found["seconds"], found["flos"]) == (None, 3.0)
    assert found["terms"] == ["NVIDIA H100, tf32, eager, 2 workers", "cpu, fp32, eager"]
    assert bill([here, here])["seconds"] == 4.0


def test_a_killed_search_is_completed_with_the_same_choices(tmp_path):
    """kill -9 of the driver amid the search: the same command ends with the tables of an undisturbed run at another concurrency."""
    search = {"strategy": "optuna", "trials": 4, "generation": 2, "seeds": [101]}
    search |= {"hyperparameters": ["all", "batch_size"], "spaces": {"batch_size": [16, 32]}}
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
    # 300 examples, of which D_R is 270, for two epochs: the networks' bills are those of their training.
    networks = {each["method"]: each["networks"] for each in chosen if each["trials"]}
    assert {(each["number"], each["unknown"]) for each in networks.values()} == {(2, 0)}
    retrain = load_results(out).to_pylist()[0]["retrain_flos"]
    assert networks["ft"]["flos"] == pytest.approx(retrain * (1 + 300 / 270))
    lr = {each["method"]: each["lr"] for each in chosen}
    assert {row["method"]: row["lr"] for row in load_results(out).to_pylist()} == lr
    options = {each["method"]: each["options"] for each in chosen}
    for row in load_results(out).to_pylist():
        assert {"batch_size": 32} | json.loads(row["options"]) == {"batch_size": 32} | options[row["method"]]
    assert {json.loads(row["options"]).get("batch_size", 32) for row in load_results(out / "search").to_pylist()} == {
        16,
        32,
    }
    assert "8 of at most 8 trials done" in finish("status", out)
