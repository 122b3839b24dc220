"""Transfer: shifted sets are scored with the original's network and with f_U, a set at a time and together."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.observations.shifted_sets import ShiftedSets
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.observing import seen_of
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import prepare
from tests.tasks.layouts import write_movie_snippets

SETS = ("amazon", "tweets", "editorials")


@pytest.fixture
def snippets(tmp_path):
    load_task.cache_clear()
    write_movie_snippets(tmp_path / "data")
    yield {
        "name": "snippets",
        "tasks": "movie_snippets",
        "models": "bert-tiny",
        "methods": ["original", "retrain", "neggrad"],
        "ratios": 10,
        "seeds": 42,
        "lrs": 1e-2,
        "training": {"epochs": 1},
        "data_dir": str(tmp_path / "data"),
    }
    load_task.cache_clear()


def test_every_row_is_scored_on_the_shifted_sets(snippets, tmp_path):
    plan = make_plan(make_suite(snippets))
    store = ArtifactStore(tmp_path / "artifacts")
    original = get_artifact(plan.originals[0], store, snippets["data_dir"])
    assert {name for name in original.observed if name.endswith("_correct")} == {f"shifted_{s}_correct" for s in SETS}
    rows = {}
    for trial in plan.trials.values():
        assert plan.originals[0].id in plan.needs(trial)
        row = rows[trial.method] = run_trial(trial, store, snippets["data_dir"]).row
        assert row["status"] in ("ok", "truncated"), row["error"]
        means = json.loads(row["transfer"])
        assert set(means) == {
            f"transfer_{s}_{who}{what}" for s in SETS for who in ("", "original_") for what in ("accuracy", "loss")
        }
        differences = [means[f"transfer_{s}_accuracy"] - means[f"transfer_{s}_original_accuracy"] for s in SETS]
        assert row["transfer_difference"] == pytest.approx(np.mean(differences))  # sets of one size
    assert rows["original"]["transfer_difference"] == 0.0
    own = json.loads(rows["original"]["transfer"])
    for s in SETS:
        assert own[f"transfer_{s}_loss"] == pytest.approx(own[f"transfer_{s}_original_loss"])
        assert own[f"transfer_{s}_original_accuracy"] == pytest.approx(original.observed[f"shifted_{s}_correct"].mean())
    moved = json.loads(rows["neggrad"]["transfer"])
    assert moved["transfer_tweets_loss"] != pytest.approx(own["transfer_tweets_loss"])


def test_an_original_made_without_the_sets_is_looked_at_again(snippets, tmp_path):
    plan = make_plan(make_suite({**snippets, "methods": "original"}))
    trial = next(iter(plan.trials.values()))
    store = ArtifactStore(tmp_path / "artifacts")
    seen = seen_of(prepare(trial, store, snippets["data_dir"]), trial, store, snippets["data_dir"])
    stored = seen.artifact("original")
    known = ShiftedSets().observe(seen)
    again = ShiftedSets().observe(
        dataclasses.replace(seen, artifact=lambda kind: dataclasses.replace(stored, observed={}))
    )
    names = {name for name in known if name.startswith("original_")}
    assert {f"original_shifted_{s}_loss" for s in SETS} < names
    for name in names & again.keys():
        assert np.array_equal(again[name], known[name]), name
    assert {name for name in names if name.endswith("_correct")} <= again.keys()


def test_a_task_without_shifted_sets_has_none(tiny, tmp_path):
    plan = make_plan(make_suite({**tiny, "methods": "retrain", "ratios": 10}))
    trial = next(iter(plan.trials.values()))
    assert plan.needs(trial) == (trial.retrain.id,)
    row = run_trial(trial, ArtifactStore(tmp_path / "artifacts")).row
    assert row["transfer"] is None and row["transfer_difference"] is None
