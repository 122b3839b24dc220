"""One trial as an ordinary function: every way it can end is a row."""

from __future__ import annotations

import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.methods import METHODS, Method, Phase
from mubench_ray.suite import make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.rows import compute_at, terms_of
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
