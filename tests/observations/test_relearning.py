"""Observations that train something after a trial: off its clock, no part of its identity, and the same whether made with it or added later."""

import json
import shutil

import numpy as np
import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.metrics.base import timed
from mubench_ray.observations import OBSERVATIONS, Observation
from mubench_ray.observations.base import observation
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.observing import Wanted, seen_of
from mubench_ray.trials.run_trial import observe_again, run_trial
from mubench_ray.trials.unlearning import prepare

BASE = {
    "name": "observed",
    "tasks": {"name": "digits", "subset": 300},
    "models": "cnn-small",
    "ratios": 20,
    "seeds": 1,
    "lrs": 1e-3,
    "training": {"epochs": 8},
}
SHORT = {"steps": 12, "every": 4}
WANTED = [Wanted.now("relearn_benign", SHORT), Wanted.now("relearn_forget", SHORT), Wanted.now("knowledge_gap")]
READ = {
    "relearn_benign": {"relearning_area", "relearning_return"},
    "relearn_forget": {"relearning_forget_1", "relearning_forget_5", "relearning_forget_10"},
    "knowledge_gap": {"knowledge_gap"},
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return ArtifactStore(tmp_path_factory.mktemp("artifacts"))


def trial_of(method, **changes):
    return next(iter(make_plan(make_suite({**BASE, "methods": method, **changes})).trials.values()))


def values_of(records):
    assert [record["error"] for record in records] == [None] * len(records)
    return {record["observation"]: json.loads(record["values"]) for record in records}


def test_an_observed_trial_is_the_same_trial(artifacts):
    observations = [{"name": "relearn_benign", **SHORT}, "relearn_forget", "knowledge_gap"]
    assert trial_of("ft", observations=observations).id == trial_of("ft").id
    plain = run_trial(trial_of("ft"), artifacts)
    observed = run_trial(trial_of("ft"), artifacts, wanted=WANTED)
    assert plain.row["status"] == observed.row["status"] == "ok", observed.row["error"]
    clock = {name for name in plain.row if timed(name)} | {"started_at", "finished_at"}
    assert {name for name in plain.row if plain.row[name] != observed.row[name]} <= clock, (
        "off the clock, and no part of the row"
    )
    assert plain.observations == []
    values = values_of(observed.observations)
    assert {name: set(found) & READ[name] for name, found in values.items()} == READ
    assert observed.values["knowledge_gap"] == values["knowledge_gap"]["knowledge_gap"]


@pytest.mark.parametrize(
    ("method", "options", "keep"),
    [("ft", {}, "none"), ("ft", {}, "all"), ("ft", {"lora": 0.2}, "adapters"), ("ft", {"lora": 0.2}, "all")],
)
def test_added_later_it_is_what_it_would_have_been(method, options, keep, tmp_path, artifacts, monkeypatch):
    own = ArtifactStore(shutil.copytree(artifacts.root, tmp_path / "own"))
    trial = trial_of(method, unlearning=options)
    wanted = WANTED[:2]
    together = run_trial(trial, own, keep=keep, wanted=wanted)
    if keep != "none":  # it is not unlearned again
        monkeypatch.setattr("mubench_ray.trials.run_trial.unlearn", None)
        size = sum(path.stat().st_size for path in (own.root / "steps").iterdir())
        whole = next(iter(own.root.glob("original-*/weights.safetensors"))).stat().st_size
        assert size < 0.6 * whole if keep == "adapters" else size >= whole
    later = observe_again(trial, wanted, together.row, own)
    assert values_of(later) == values_of(together.observations)
    for one, other in zip(together.observations, later, strict=True):
        for mine, theirs in zip(one["arrays"], other["arrays"], strict=True):
            assert mine["name"] == theirs["name"] and np.array_equal(mine["values"], theirs["values"]), mine["name"]


def test_another_network_than_the_rows_is_not_observed(tmp_path):
    own = ArtifactStore(tmp_path)
    trial, other = trial_of("neggrad", lrs=1e-2), trial_of("retrain")
    row = run_trial(trial, own, keep="all").row
    run_trial(other, own, keep="all")
    path = tmp_path / "steps" / f"{trial.id}.safetensors"
    path.write_bytes((tmp_path / "steps" / f"{other.id}.safetensors").read_bytes())
    (record,) = observe_again(trial, WANTED[:1], row, own)
    assert record["status"] == "failed" and f"holds the network of trial {other.id}" in record["error"]
    own.keep(trial.id, prepare(other, own).ctx.network)
    (record,) = observe_again(trial, WANTED[:1], row, own)
    assert record["status"] == "failed" and "is not the one of the row" in record["error"]
    assert record["values"] == "{}" and record["arrays"] == []


def test_the_retrain_relearns_like_itself(artifacts):
    values = values_of(run_trial(trial_of("retrain"), artifacts, wanted=WANTED[:2]).observations)
    assert {
        name: value for found in values.values() for name, value in found.items() if not name.endswith("_share")
    } == {name: 0.0 for observed in ("relearn_benign", "relearn_forget") for name in READ[observed]}


def test_what_was_hidden_comes_back_and_the_curve_has_its_points(artifacts):
    trial = trial_of("original")
    prepared = prepare(trial, artifacts)
    before = [p.clone() for p in prepared.ctx.network.parameters()]
    seen = seen_of(prepared, trial, artifacts)
    curve = OBSERVATIONS.get("relearn_benign")(**SHORT).observe(seen)
    assert curve["relearn_steps"].tolist() == [0, 4, 8, 12]
    assert all(len(values) == 4 for values in curve.values())
    assert curve["relearn_forget_accuracy"].mean() > curve["retrain_relearn_forget_accuracy"].mean()
    retrained = prepared.retrain.observed["forget_correct"].mean()
    assert retrained == pytest.approx(curve["retrain_relearn_forget_accuracy"][0])
    shares = OBSERVATIONS.get("relearn_forget")(**SHORT, shares=(5, 10)).observe(seen)
    assert shares["relearn_share_accuracy"].shape == shares["retrain_relearn_share_accuracy"].shape == (2, 4)
    assert shares["relearn_share_accuracy"][0, 0] == shares["relearn_share_accuracy"][1, 0], "one rest for all shares"
    assert all(bool((a == b).all()) for a, b in zip(before, prepared.ctx.network.parameters())), "a copy relearns"


def test_a_share_that_leaves_nothing_to_watch_is_a_reason_not_a_row(artifacts):
    outcome = run_trial(trial_of("ft"), artifacts, wanted=[Wanted.now("relearn_forget", {"shares": [100]}), WANTED[0]])
    assert outcome.row["status"] == "ok"
    failed, fine = outcome.observations
    assert failed["status"] == "failed" and "100 %" in failed["error"] and "none to watch" in failed["error"]
    assert fine["status"] == "ok" and json.loads(fine["values"])


def test_the_helpers_are_artifacts_of_the_plan():
    suite = make_suite({**BASE, "methods": ["ft", "retrain"], "seeds": [1, 2], "observations": "knowledge_gap"})
    plan = make_plan(suite)
    kinds = sorted(recipe.kind for recipe in plan.recipes.values())
    assert kinds == sorted(["original", "retrain", "forget-only", "validation-only"] * 2)
    for trial in plan.trials.values():
        assert len(plan.needs(trial)) == 4 and set(plan.needs(trial)) <= plan.recipes.keys()


def test_the_original_has_the_larger_knowledge_gap(artifacts):
    gaps = [
        run_trial(trial_of(name), artifacts, wanted=WANTED[2:]).values["knowledge_gap"]
        for name in ("original", "retrain")
    ]
    assert np.isfinite(gaps).all() and gaps[0] >= 0


def test_probes_of_earlier_suites_are_the_observations_they_became():
    earlier = make_suite({**BASE, "methods": "ft", "probes": {"relearning": SHORT, "knowledge_gap": True}})
    now = make_suite({**BASE, "methods": "ft", "observations": [{"name": "relearning", **SHORT}, "knowledge_gap"]})
    assert earlier == now and [entry.name for entry in now.observations] == ["relearn_benign", "knowledge_gap"]
    assert make_suite({**BASE, "methods": "ft", "probes": {}}).observations == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"observations": "relern_benign"}, "Did you mean 'relearn_benign'"),
        ({"observations": {"name": "relearn_benign", "step": 3}}, "no option 'step'. Did you mean 'steps'"),
        ({"observations": {"name": "relearn_forget", "shares": []}}, "shares"),
        ({"observations": "weights"}, "every trial is looked at for it already"),
        ({"observations": ["knowledge_gap", "knowledge_gap"]}, "once more"),
        ({"probes": {"relearn": {}}}, "probes.relearn"),
        ({"keep": "adapters"}, "unlearning.lora is not set"),
        ({"keep": "some"}, "keep"),
    ],
)
def test_what_a_suite_asks_wrongly_is_refused(given, says):
    with pytest.raises(MubenchError) as refused:
        make_suite({**BASE, "methods": "ft", **given})
    assert says in str(refused.value)


def test_what_cannot_be_observed_is_said_in_the_plan():
    plan = make_plan(
        make_suite(
            {**BASE, "tasks": {"name": "samsum"}, "models": "t5-tiny", "methods": "ft", "observations": "knowledge_gap"}
        )
    )
    (part,) = plan.unobservable
    assert (
        part.what == "samsum x knowledge_gap"
        and part.trials == len(plan.trials)
        and "class probabilities" in part.reason
    )


def test_an_observation_that_changes_the_network_or_gives_what_it_does_not_say_is_a_reason(artifacts):
    @observation("meddling", title="Trains what it looks at")
    class Meddling(Observation):
        gives = ("meddled",)

        def observe(self, seen):
            seen.ctx.network.requires_grad_(True)
            for parameter in seen.ctx.network.parameters():
                parameter.data.mul_(0.5)
            return {"meddled": np.zeros(1)}

    @observation("straying", title="Gives more than it says")
    class Straying(Observation):
        gives = ("said",)

        def observe(self, seen):
            return {"unsaid": np.zeros(1)}

    try:
        first, second = run_trial(
            trial_of("ft"), artifacts, wanted=[Wanted(name="straying"), Wanted(name="meddling")]
        ).observations
    finally:
        for name in ("meddling", "straying"):
            del OBSERVATIONS._things[name], OBSERVATIONS._spellings[name]
    assert "'unsaid', which its ``gives`` does not name" in first["error"]
    assert "changed the network" in second["error"] and second["status"] == "failed"


def test_what_an_observation_draws_does_not_depend_on_what_was_drawn_before(artifacts):
    @observation("drawing", title="Draws from torch's own generator")
    class Drawing(Observation):
        gives = ("drawn",)

        def observe(self, seen):
            return {"drawn": torch.rand(3).numpy()}

    try:
        wanted = [Wanted(name="drawing")]
        together = run_trial(trial_of("ft"), artifacts, wanted=wanted)
        torch.rand(5)
        later = observe_again(trial_of("ft"), wanted, together.row, artifacts)
    finally:
        del OBSERVATIONS._things["drawing"], OBSERVATIONS._spellings["drawing"]
    ours, theirs = (each[0]["arrays"][0]["values"] for each in (together.observations, later))
    assert np.array_equal(ours, theirs)
