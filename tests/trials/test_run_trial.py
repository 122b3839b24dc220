"""One trial as an ordinary function: every way it can end is a row."""

from __future__ import annotations

import json

import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.methods import METHODS, Method, Phase
from mubench_ray.metrics import METRICS
from mubench_ray.search import losses
from mubench_ray.status import is_usable
from mubench_ray.suite import make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.observing import Wanted
from mubench_ray.trials.rows import compute_at, failed_outcome, terms_of
from mubench_ray.trials.run_trial import run_trial
from tests.conftest import CIRCUMSTANCES


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return ArtifactStore(tmp_path_factory.mktemp("artifacts"))


def trial(tiny, method, **changes):
    suite = make_suite({**tiny, "methods": method, "ratios": 10, **changes})
    return next(iter(make_plan(suite).trials.values()))


class Stub(Method):
    """A method that ends in the way a test asks for, registered for the length of that test."""

    def __init__(self, act):
        self.act = act

    @classmethod
    def named(cls, monkeypatch, name, act):
        made = type(
            name,
            (Method,),
            {"name": name, "title": name, "cites": "a test", "phases": lambda self, ctx: act(ctx) or []},
        )
        monkeypatch.setitem(METHODS._things, name, made)
        monkeypatch.setitem(METHODS._spellings, name, name)
        monkeypatch.setattr(made, "configure", classmethod(lambda cls, given: cls()))
        monkeypatch.setattr(made, "hyperparameters", lambda self: {})


def test_a_good_trial_fills_its_row(tiny, artifacts):
    outcome = run_trial(trial(tiny, {"name": "ft", "epochs": 2}), artifacts)
    row = outcome.row
    assert row["status"] == "ok" and row["error"] is None
    assert 0 < row["flos"] <= row["retrain_flos"]
    assert row["forget_size"] + row["retain_size"] == 300
    sizes = json.loads(row["set_sizes"])
    assert (sizes["forget"], sizes["retain"]) == (row["forget_size"], row["retain_size"])
    kept = outcome.examples["split"].to_pylist()
    assert {name: kept.count(name) for name in sizes} == sizes and sizes["test"] > 0 and sizes["validation"] > 0
    assert (row["compute"], row["execution"], row.get("peak_memory")) == ("fp32", "eager", None)
    assert row["examples_per_second"] == pytest.approx(2 * 270 / row["seconds"])
    for name in ("test_accuracy", "forget_accuracy", "retain_accuracy", "validation_accuracy", "u_mia", "indisc"):
        assert 0 <= row[name] <= 1
    shares = [point["retrain_share"] for point in outcome.curve]
    assert shares == sorted(shares) and shares[0] == 0 and len(set(shares)) == len(shares)
    assert outcome.curve[-1]["flos"] == row["flos"]
    examples = outcome.examples.to_pydict()
    assert {s: examples["split"].count(s) for s in set(examples["split"])} == {
        "forget": 30, "retain": 270, "validation": row_count("validation"), "test": row_count("test"),
    }  # fmt: skip


def row_count(split):
    return len(getattr(load_task("digits", 300, None)[1], split))


def test_the_precision_is_that_of_the_steps_that_the_seconds_are_of(tiny):
    half = {"unlearning": {"precision": "bf16"}}
    assert [terms_of(trial(tiny, name, **half), "cpu")["compute"] for name in ("ft", "retrain")] == ["bf16", "fp32"]
    assert compute_at("bf16", "cuda") == "bf16"


def test_accuracy_is_the_mean_of_the_examples(tiny, artifacts):
    outcome = run_trial(trial(tiny, "neggrad"), artifacts)
    table = outcome.examples.to_pandas()
    for split in ("forget", "test", "validation", "retain"):
        assert outcome.row[f"{split}_accuracy"] == pytest.approx(table[table.split == split].correct.mean(), abs=1e-6)
    assert outcome.row["forget_loss"] == pytest.approx(table[table.split == "forget"].loss.mean(), rel=1e-5)


def test_same_trial_same_row(tiny, artifacts, tmp_path):
    one = run_trial(trial(tiny, "salun"), artifacts).row
    run_trial(trial(tiny, "bad_t"), artifacts)  # what ran before must not matter
    other = run_trial(trial(tiny, "salun"), ArtifactStore(tmp_path)).row
    for name in one.keys() - CIRCUMSTANCES:
        assert one[name] == other[name], name


def test_controls_bracket_the_cost(tiny, artifacts):
    original, retrain = (run_trial(trial(tiny, name), artifacts).row for name in ("original", "retrain"))
    assert original["flos"] == 0 and original["lr"] is None
    assert retrain["flos"] == retrain["retrain_flos"]
    assert retrain["retention_deviation"] == 0
    assert retrain["retrain_time_efficiency"] == pytest.approx(1, rel=0.05)


def test_a_trial_stops_at_its_budget_and_says_so(tiny, artifacts):
    row = run_trial(trial(tiny, {"name": "ft", "epochs": 50}), artifacts).row
    assert row["status"] == "truncated"
    assert row["flos"] <= row["retrain_flos"]
    assert row["flos"] > 0.9 * row["retrain_flos"]
    assert row["test_accuracy"] is not None


def test_seconds_are_enforced_where_asked_for(tiny, artifacts):
    row = run_trial(trial(tiny, {"name": "ft", "epochs": 3}, budget={"flos": None, "seconds": 0.05}), artifacts).row
    assert row["status"] == "truncated"


def test_the_budget_may_be_lifted(tiny, artifacts):
    row = run_trial(trial(tiny, {"name": "ft", "epochs": 4}, budget={"flos": None}), artifacts).row
    assert row["status"] == "ok" and row["flos"] > row["retrain_flos"]


def test_a_nan_loss_is_diverged(tiny, artifacts, monkeypatch):
    def nan(ctx):
        return [Phase("nan", "forget", lambda ctx, batch: ctx.loss(batch) * torch.nan)]

    Stub.named(monkeypatch, "nan", nan)
    row = run_trial(trial(tiny, "nan"), artifacts).row
    assert row["status"] == "diverged" and "nan at step 1" in row["error"]


def test_a_method_that_raises_is_failed_with_its_message(tiny, artifacts, monkeypatch):
    def broken(ctx):
        raise IndexError("the third layer is missing")

    Stub.named(monkeypatch, "broken", broken)
    outcome = run_trial(trial(tiny, "broken"), artifacts)
    assert outcome.row["status"] == "failed"
    assert outcome.row["error"] == "IndexError: the third layer is missing"
    assert "broken" in outcome.traceback


def test_out_of_memory_is_told_apart(tiny, artifacts, monkeypatch):
    def hungry(ctx):
        raise torch.OutOfMemoryError("CUDA out of memory")

    Stub.named(monkeypatch, "hungry", hungry)
    assert run_trial(trial(tiny, "hungry"), artifacts).row["status"] == "out_of_memory"


def test_test_set_is_out_of_reach_while_unlearning(tiny, artifacts, monkeypatch):
    def peeks(ctx):
        ctx.data.rows("test")

    Stub.named(monkeypatch, "peeks", peeks)
    row = run_trial(trial(tiny, "peeks"), artifacts).row
    assert row["status"] == "failed" and "test" in row["error"]


def test_an_empty_forget_set_is_a_failed_row(tiny, artifacts):
    planned = trial(tiny, "ft").model_dump()  # the plan itself would refuse the ratio
    row = run_trial(Trial.model_validate(planned | {"forget": planned["forget"] | {"ratio": 0.1}}), artifacts).row
    assert row["status"] == "failed" and "empty forget set" in row["error"]


def test_missing_data_is_a_failed_row(tiny, artifacts, monkeypatch, tmp_path):
    from mubench_ray.tasks.fashion_mnist import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "elsewhere", (tmp_path,))
    monkeypatch.setattr(FashionMNIST, "url", "http://127.0.0.1:9")
    monkeypatch.setenv("MUBENCH_DATA", str(tmp_path))
    row = run_trial(trial(tiny, "ft", tasks="fashion_mnist"), artifacts, data_dir=tmp_path / "none").row
    assert row["status"] == "failed" and "idx files" in row["error"]


# What it spent, and on what terms


def stub(monkeypatch, name, at, error):
    """A method of 9 steps over D_R, of which the step ``at`` raises; the first is tried before."""
    taken = []

    def loss(ctx, batch):
        taken.append(len(batch))
        if len(taken) == at + 2:
            raise error
        return ctx.loss(batch) * (torch.nan if at < 0 and len(taken) == 1 - at else 1.0)

    Stub.named(monkeypatch, name, lambda ctx: [Phase(name, "retain", loss, epochs=1)])
    return taken


@pytest.mark.parametrize(
    ("at", "error", "status", "steps"),
    [
        (3, ValueError("no"), "failed", 3),
        (3, torch.OutOfMemoryError("no"), "out_of_memory", 3),
        (-3, None, "diverged", 3),
    ],
)
def test_a_row_without_a_network_says_what_it_had_spent(tiny, artifacts, monkeypatch, at, error, status, steps):
    """The cost of the steps that were made: of all, of equal size, by the share of them."""
    whole = run_trial(trial(tiny, {"name": "ft", "epochs": 1}), artifacts).row
    stub(monkeypatch, f"ends{status[:3]}", at, error)
    row = run_trial(trial(tiny, f"ends{status[:3]}"), artifacts).row
    assert row["status"] == status
    assert row["flos"] == pytest.approx(whole["flos"] * steps * 32 / 270, rel=1e-6)
    assert 0 < row["seconds"] < row["wall_seconds"]
    assert row.get("test_accuracy") is None


def test_what_fails_at_a_methods_end_has_spent_its_steps(tiny, artifacts, monkeypatch):
    finished = []

    def finish(self, ctx):
        finished.append(ctx)
        if len(finished) > 1:  # it is tried before, on a copy
            raise MemoryError("too much")

    stub(monkeypatch, "endslate", 99, None)
    monkeypatch.setattr(METHODS.get("endslate"), "finish", finish)
    row = run_trial(trial(tiny, "endslate"), artifacts).row
    whole = run_trial(trial(tiny, {"name": "ft", "epochs": 1}), artifacts).row
    assert (row["status"], row["flos"]) == ("out_of_memory", whole["flos"])


@pytest.mark.parametrize("method", ["ft", "salun", "ssd", "iu", "eu_k"])
def test_a_budget_that_allows_no_step_leaves_no_numbers(tiny, artifacts, method):
    """By less than a step of any kind, and (ssd) by what is enough to look at gradients, not to see one of D_F."""
    for share in (1e-6, 1.5e-3 if method == "ssd" else 1e-6):
        wanted = [Wanted.now("relearn_benign", {"steps": 1, "every": 1})]
        planned = trial(tiny, method, budget={"flos": share})
        outcome = run_trial(planned, artifacts, wanted=wanted)
        row = outcome.row
        assert (row["status"], row["error"]) == ("truncated", "the budget allowed no step")
        assert {name for name in METRICS.names() if row.get(name) is not None} == set()
        assert outcome.examples is None and outcome.curve == [] and not outcome.observations
        assert not is_usable(row) and losses(row, {"retain_gap": 1.0}) is None
        assert row["flos"] <= share * row["retrain_flos"]
    assert row["flos"] > 0 or method != "ssd"


def test_a_budget_of_a_step_gives_the_methods_own_numbers(tiny, artifacts):
    row = run_trial(trial(tiny, {"name": "ft", "epochs": 2}, budget={"flos": 0.05}), artifacts).row
    assert (row["status"], row["error"]) == ("truncated", None) and is_usable(row)
    assert 0 < row["flos_share"] <= 0.05 and row["test_accuracy"] is not None


HALF = {"unlearning": {"precision": "bf16"}}


def test_seconds_in_another_precision_are_compared_with_nothing(tiny, artifacts):
    """Neither RTE nor a cap in seconds; the FLOs are the same in any precision."""
    same, half = (
        run_trial(
            trial(tiny, {"name": "ft", "epochs": 1}, budget={"flos": 1.0, "seconds": 1e-4}, **more), artifacts
        ).row
        for more in ({}, HALF)
    )
    assert same["status"] == "truncated" and same.get("marks") is None and same["retrain_seconds"] > 0
    assert half["status"] == "ok" and half["compute"] == "bf16"
    assert half["retrain_seconds"] is half["retrain_time_efficiency"] is None
    assert 0 < half["flos_share"] < 1
    (told,) = json.loads(half["marks"])
    assert told.endswith("the retrain ran on cpu, fp32, eager, and this trial on cpu, bf16, eager")


def test_an_artifact_says_on_what_terms_it_was_trained(tiny, artifacts):
    planned = trial(tiny, "ft", training={"precision": "bf16", "epochs": 1})
    run_trial(planned, artifacts)
    for recipe in (planned.original, planned.retrain):
        terms = artifacts.load(recipe).terms
        assert terms == {"device": "cpu", "compute": "bf16", "execution": "eager", "workers": 1}
        assert artifacts.bill(recipe) == {
            "flos": artifacts.load(recipe).flos, "seconds": artifacts.load(recipe).seconds, "terms": terms
        }  # fmt: skip
    assert artifacts.bill(trial(tiny, "ft", seeds=77).original) is None


def rewrite(artifacts, recipe, **changes):
    """Let an artifact say something else of itself; None takes a key out."""
    path = artifacts.root / recipe.id / "meta.json"
    meta = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in meta.items() if value is not None}))


def test_a_retrain_of_another_device_or_of_more_workers_is_not_compared(tiny, tmp_path):
    store, planned = ArtifactStore(tmp_path), trial(tiny, "ft", training={"epochs": 1})
    run_trial(planned, store)
    here = store.load(planned.retrain).terms
    for other in ({"device": "NVIDIA H100"}, {"execution": "captured"}, {"workers": 4}):
        rewrite(store, planned.retrain, terms=here | other)
        row = run_trial(planned, store).row
        assert row["retrain_time_efficiency"] is None and str(*other.values()) in row["marks"]
    rewrite(store, planned.retrain, terms=here)
    assert run_trial(planned, store).row["retrain_time_efficiency"] > 0


def test_an_earlier_releases_retrain_is_compared_where_it_comes_from_this_machine(tiny, tmp_path):
    store, planned = ArtifactStore(tmp_path), trial(tiny, "ft", training={"epochs": 1})
    half = trial(tiny, "ft", training={"epochs": 1}, **HALF)
    run_trial(planned, store)
    rewrite(store, planned.retrain, terms=None)
    assert run_trial(planned, store).row["retrain_time_efficiency"] > 0
    assert run_trial(half, store).row["retrain_time_efficiency"] is None
    provenance = json.loads((store.root / planned.retrain.id / "meta.json").read_text())["provenance"]
    rewrite(store, planned.retrain, provenance=provenance | {"host": "elsewhere"})
    row = run_trial(planned, store).row
    assert row["retrain_time_efficiency"] is None and "an earlier release made the retrain elsewhere" in row["marks"]


def test_a_retrains_own_row_is_on_the_terms_of_its_training(tiny, tmp_path):
    """Its seconds are those of the artifact, wherever it is looked at."""
    store, planned = ArtifactStore(tmp_path), trial(tiny, "retrain", training={"epochs": 1}, **HALF)
    run_trial(planned, store)
    terms = {"device": "NVIDIA H100", "compute": "tf32", "execution": "eager", "workers": 2}
    rewrite(store, planned.retrain, terms=terms)
    row = run_trial(planned, store).row
    assert {name: row[name] for name in terms} == terms
    assert row["retrain_time_efficiency"] == pytest.approx(1, rel=0.05) and row.get("marks") is None


def test_of_a_run_whose_process_died_its_last_checkpoint_is_the_bill(tiny, tmp_path):
    store, planned = ArtifactStore(tmp_path, checkpoint_seconds=0.0), trial(tiny, "ft")
    assert store.spent(planned.id) == {} == ArtifactStore(tmp_path).spent(planned.id)
    saved = {"meter": {"flos": 5e6, "seconds": 1.5, "examples": 64, "per_example": {}}, "position": None}
    progress = store.progress(planned.id)
    assert progress is not None
    progress.save(saved)
    row = failed_outcome(planned, "its process died", spent=store.spent(planned.id)).row
    assert (row["status"], row["flos"], row["seconds"]) == ("failed", 5e6, 1.5)
    assert failed_outcome(planned, "it never began").row.get("flos") is None
    progress.path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="cannot be used"):
        assert store.spent(planned.id) == {}
