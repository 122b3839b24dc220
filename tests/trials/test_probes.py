"""Probes: relearning and the knowledge gap, measured after a trial and off its clock."""

import numpy as np
import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.suite import make_suite
from mubench_ray.trial import Relearning
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.probes import relearn
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import prepare

BASE = {
    "name": "probed",
    "tasks": {"name": "digits", "subset": 300},
    "models": "cnn-small",
    "ratios": 20,
    "seeds": 1,
    "lrs": 1e-3,
    "training": {"epochs": 8},
    "probes": {"relearning": {"steps": 12, "every": 4}, "knowledge_gap": True},
}
RELEARNED = ("relearning_area", "relearning_return")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return ArtifactStore(tmp_path_factory.mktemp("artifacts"))


def trial_of(method, **changes):
    return next(iter(make_plan(make_suite({**BASE, "methods": method, **changes})).trials.values()))


def test_a_probed_trial_has_the_metrics_and_costs_what_it_cost(artifacts):
    plain = run_trial(trial_of("ft", probes={}), artifacts).row
    probed = run_trial(trial_of("ft"), artifacts).row
    assert probed["status"] == "ok", probed["error"]
    assert all(plain[name] is None for name in (*RELEARNED, "knowledge_gap"))
    assert all(probed[name] is not None for name in (*RELEARNED, "knowledge_gap"))
    assert probed["flos"] == plain["flos"], "probes are off the clock"
    assert probed["test_accuracy"] == plain["test_accuracy"]
    assert probed["trial_id"] != plain["trial_id"]


def test_the_retrain_relearns_like_itself(artifacts):
    row = run_trial(trial_of("retrain"), artifacts).row
    assert (row["relearning_area"], row["relearning_return"]) == (0.0, 0.0)


def test_what_was_hidden_comes_back_and_the_curve_has_its_points(artifacts):
    trial = trial_of("original")
    prepared = prepare(trial, artifacts)
    before = [p.clone() for p in prepared.ctx.network.parameters()]
    curve = relearn(trial, prepared, Relearning(steps=12, every=4))
    assert curve["relearn_steps"].tolist() == [0, 4, 8, 12]
    assert all(len(values) == 4 for values in curve.values())
    assert curve["relearn_forget_accuracy"].mean() > curve["retrain_relearn_forget_accuracy"].mean()
    assert all(bool((a == b).all()) for a, b in zip(before, prepared.ctx.network.parameters())), "a copy relearns"
    assert prepared.retrain.observed["forget_correct"].mean() == pytest.approx(
        curve["retrain_relearn_forget_accuracy"][0]
    )


def test_the_helpers_are_artifacts_of_the_plan(artifacts):
    plan = make_plan(make_suite({**BASE, "methods": ["ft", "retrain"], "seeds": [1, 2]}))
    kinds = sorted(recipe.kind for recipe in plan.recipes.values())
    assert kinds == sorted(["original", "retrain", "forget-only", "validation-only"] * 2)
    for trial in plan.trials.values():
        assert len(plan.needs(trial)) == 4 and set(plan.needs(trial)) <= plan.recipes.keys()


def test_the_original_has_the_larger_knowledge_gap(artifacts):
    gaps = [run_trial(trial_of(name), artifacts).row["knowledge_gap"] for name in ("original", "retrain")]
    assert np.isfinite(gaps).all() and gaps[0] >= 0
