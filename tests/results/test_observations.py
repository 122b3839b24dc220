"""Records of observations beside their trials: of each observation one kind is shown, of all trials the same, and of a trial one record."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from mubench_ray.metrics.base import describe_metrics, metric
from mubench_ray.results.compaction import compact, loose_files
from mubench_ray.results.observations import arrays_of, contradiction, load_results, shown_of
from mubench_ray.results.repetitions import read_trials
from mubench_ray.results.schema import OBSERVATIONS, table_of
from mubench_ray.results.score import score
from mubench_ray.results.storage import Place
from mubench_ray.results.store import Store
from mubench_ray.results.submission import faulty_observations
from mubench_ray.suite import make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.observing import Wanted
from mubench_ray.trials.run_trial import metric_names, observe_again, run_trial

SHORT = Wanted.now("relearn_benign", {"steps": 2, "every": 1})
LONG = Wanted.now("relearn_benign", {"steps": 4, "every": 2})


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """Two trials, both looked at for the short relearning, and the first for the long one, too."""
    from mubench_ray.engine.plan import make_plan

    artifacts = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    content = {
        **tiny,
        "methods": [{"name": "ft", "epochs": 1}],
        "ratios": 10,
        "seeds": [1, 2],
        "training": {"epochs": 1},
    }
    trials = list(make_plan(make_suite(content)).trials.values())
    first, second = (
        run_trial(trial, artifacts, wanted=wanted) for trial, wanted in zip(trials, ([SHORT, LONG], [SHORT]))
    )
    return first, second, artifacts


@pytest.fixture
def store(made, tmp_path):
    store = Store(tmp_path)
    store.create({"suite": "made"})
    store.write_text("metrics.json", json.dumps(describe_metrics()))
    for outcome in made[:2]:
        store.write(outcome, metric_names())
    return store


def plan_for(store: Store, made, wanted) -> None:
    """The folder's plan asks for this relearning."""
    kind = {
        "name": wanted.name,
        "version": str(wanted.version),
        "options": json.dumps(wanted.options, separators=(",", ":"), sort_keys=True),
    }
    trials = [outcome.row["trial_id"] for outcome in made[:2]]
    store.write_text("plan.json", json.dumps({"trials": trials, "suites": [{"observations": [kind]}]}))


def test_a_score_takes_the_kind_that_is_shown_of_every_trial(store, made):
    """A run that asks for other options was killed after the first trial: of the second there is nothing to compare it with."""
    first, second = (outcome.row["trial_id"] for outcome in made[:2])
    plan_for(store, made, LONG)
    rows = {row["trial_id"]: row["relearning_area"] for row in read_trials(store)[0].to_pylist()}
    scored = {row["trial_id"]: row["value"] for row in score(store.root, "relearning_area").to_pylist()}
    assert rows[first] == pytest.approx(scored[first]) and rows[second] is None and scored[second] is None
    assert arrays_of(store, second) == {} and len(shown_of(store, first)) == 1
    # Nobody says which: none is shown, and none is scored.
    store.place.delete("plan.json")
    assert shown_of(store, first) == shown_of(store, second) == []


def test_a_record_that_is_there_twice_with_different_numbers_is_not_shown(store, made):
    second = made[1].row["trial_id"]
    plan_for(store, made, SHORT)
    shown = {row["trial_id"]: row["relearning_area"] for row in read_trials(store)[0].to_pylist()}
    (record,) = shown_of(store, second)
    values = json.loads(record["values"])
    folder = store.root / "observations"
    (file,) = folder.glob(f"{second}-*.parquet")
    once_more = pq.read_table(file)
    pq.write_table(once_more, folder / f"{second}-0.parquet")
    assert read_trials(store)[1] == [line for line in read_trials(store)[1] if "2 ways" in line], "equal ones are one"
    place = once_more.schema.get_field_index("values")
    other = json.dumps(values | {"relearning_area": values["relearning_area"] + 0.25})
    pq.write_table(once_more.set_column(place, "values", [[other]]), folder / f"{second}-0.parquet")
    rows, told = read_trials(store)
    now = {row["trial_id"]: row["relearning_area"] for row in rows.to_pylist()}
    assert now == shown | {second: None}
    (line,) = [line for line in told if "there twice" in line]
    assert second in line and f"{values['relearning_area']:.6g}" in line


def test_a_merge_in_progress_holds_every_record_once(store, monkeypatch):
    """Records hold lists, and those of different trials may be equal in the columns that are read."""
    whole = store.read("observations").sort_by([("trial_id", "ascending"), ("options", "ascending")])
    names = loose_files(Place(store.root / "observations"))
    monkeypatch.setattr("mubench_ray.results.compaction._adopt", lambda folder, hidden: None)  # killed right before
    compact(store.place.inside("observations"), at_least=2)
    assert {path.name for path in (store.root / "observations").iterdir()} == {*names, "_part-1.parquet"}
    now = store.read("observations").sort_by([("trial_id", "ascending"), ("options", "ascending")])
    assert now.to_pylist() == whole.to_pylist()
    assert len(store.read("observations", columns=["observation"])) == len(whole) == 3
    assert load_results(store.root, "observations").num_rows == 3


def test_a_metric_that_raises_on_what_was_observed_is_the_reason_of_that_record_alone(made, monkeypatch):
    first, _, artifacts = made
    from mubench_ray.metrics import METRICS

    before = dict(METRICS._things), dict(METRICS._spellings)

    @metric("raising", direction="lower", cites="a test")
    def raising(relearn_forget_accuracy) -> float:
        """Raise."""
        raise ValueError("too short")

    try:
        trial = Trial.model_validate_json(first.row["trial"])
        outcome = run_trial(trial, artifacts, wanted=[SHORT, Wanted.now("knowledge_gap")])
        again = observe_again(trial, [SHORT], first.row, artifacts)
    finally:
        METRICS._things, METRICS._spellings = before
    assert outcome.row["status"] == "ok" and outcome.row["test_loss"] == first.row["test_loss"]
    reasons = {record["observation"]: (record["status"], record["error"]) for record in outcome.observations}
    assert reasons == {
        "relearn_benign": ("failed", "metric raising: ValueError: too short"),
        "knowledge_gap": ("ok", None),
    }
    assert [record["error"] for record in again] == ["metric raising: ValueError: too short"]


def test_kept_weights_that_are_damaged_are_named_and_are_not_needed(made, tmp_path):
    first, _, artifacts = made
    trial = Trial.model_validate_json(first.row["trial"])
    run_trial(trial, artifacts, keep="all")
    file = artifacts.root / "steps" / f"{trial.id}.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    (record,) = observe_again(trial, [SHORT], first.row, artifacts)
    assert record["status"] == "failed" and f"{file} is damaged" in record["error"]
    file.unlink()
    (record,) = observe_again(trial, [SHORT], first.row, artifacts)
    assert record["status"] == "ok"


def test_any_two_of_several_records_may_contradict_each_other():
    assert contradiction([{"zrf": 0.5}, {"l2_distance": 1.0}, {"l2_distance": 2.0}], ()) == "l2_distance 1 and 2"
    assert contradiction([{"zrf": 0.5}, {"zrf": 0.5 + 1e-9}, {"l2_distance": 2.0}], ()) is None


def test_records_that_contradict_each_other_give_no_arrays_and_no_score(made, store):
    """The last of the two would do, whichever that is."""
    trial_id = made[0].row["trial_id"]
    plan_for(store, made, SHORT)
    assert arrays_of(store, trial_id)
    (record,) = [r for r in shown_of(store, trial_id) if r["observation"] == "relearn_benign"]
    values = {name: value + 1 for name, value in json.loads(record["values"]).items()}
    store.write_table(
        "observations", "other.parquet", table_of([record | {"values": json.dumps(values)}], OBSERVATIONS)
    )
    assert shown_of(store, trial_id) == [] and arrays_of(store, trial_id) == {}
    assert set(load_results(store.root)["relearning_area"].to_pylist()) >= {None}
    rows = {row["trial_id"]: row for row in score(store.root, "relearning_area").to_pylist()}
    assert rows[trial_id]["value"] is None and "not observed" in rows[trial_id]["reason"]
    told = [line for line in faulty_observations(store) if "twice" in line]
    assert len(told) == 1 and f"relearn_benign of trial {trial_id} is there twice, with relearning_" in told[0]
