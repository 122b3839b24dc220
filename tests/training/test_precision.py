"""compute, weights: one vocabulary of precision, by which earlier ids and rows stay what they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import SuiteError
from mubench_ray.models import get_model
from mubench_ray.provenance import provenance, tensor_float_switches
from mubench_ray.results.configurations import configuration
from mubench_ray.results.repetitions import as_today
from mubench_ray.suite import make_suite
from mubench_ray.tasks.base import Batch
from mubench_ray.training.loop import Loop
from mubench_ray.training.precision import compute_at, tensor_float
from mubench_ray.trial import Recipe, Trial, Unlearning
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import prepare, unlearn

SUITE = {
    "name": "s", "tasks": {"name": "digits", "subset": 300}, "models": "cnn-small", "methods": ["ft"], "ratios": 5, "seeds": 1, "lrs": 1e-3,
}  # fmt: skip


def planned(**changes):
    return make_plan(make_suite(SUITE | changes))


def test_what_was_called_precision_is_compute_and_has_the_ids_that_it_had():
    earlier = planned(unlearning={"precision": "bf16"}, training={"precision": "bf16"})
    today = planned(unlearning={"compute": "bf16"}, training={"compute": "bf16"})
    # As the release that called it precision gave them.
    assert [*earlier.trials] == [*today.trials] == ["e422e8525614bfed"]
    assert [*earlier.recipes] == [*today.recipes] == ["original-58142561839f3b7d", "retrain-5f658a8e457a05a4"]
    assert [*planned().trials] == ["5528472079ea83a2"]
    assert [*planned().trials] == [*planned(unlearning={"compute": "fp32", "weights": "fp32"}).trials]
    assert len({*planned().trials, *today.trials, *planned(unlearning={"compute": "tf32"}).trials}) == 3
    (told,) = earlier.suite.notes
    assert told.startswith("precision is called compute now") and "training, unlearning" in told
    assert today.suite.notes == []


def test_a_suites_precision_is_not_outvoted_by_the_tasks_own_compute():
    (trial,) = planned(training={"precision": "bf16"}).trials.values()
    assert trial.training.compute == "bf16"
    model = {"name": "cnn-small", "training": {"precision": "bf16"}}
    (trial,) = planned(models=model, training={"compute": "tf32"}).trials.values()
    assert trial.training.compute == "bf16"


def test_trials_recipes_and_configurations_of_an_earlier_release_are_read():
    (trial,) = planned(unlearning={"compute": "bf16"}, training={"compute": "bf16"}).trials.values()

    def earlier(text):
        content = json.loads(text)
        for part in [content.get("training"), content.get("unlearning")]:
            if part:
                del part["weights"]
                part["precision"] = part.pop("compute")
        return content

    stored = earlier(trial.model_dump_json())
    assert Trial.model_validate(stored).id == trial.id
    assert Recipe.model_validate(earlier(trial.original.model_dump_json())).id == trial.original.id
    told = {
        "configuration": None,
        "trial": json.dumps(stored),
        "hyperparameters": "{}",
        "options": '{"precision":"bf16"}',
    }
    told |= {
        "task": "digits",
        "model": "cnn-small",
        "method": "ft",
        "lr": 1e-3,
        "after": "",
        "sampler": "class_balanced",
    }
    assert configuration(told) == trial.configuration
    assert '"compute":"bf16"' in trial.configuration
    assert as_today(trial.configuration.replace('"compute"', '"precision"')) == trial.configuration


@pytest.mark.parametrize("part", ["training", "unlearning"])
def test_weights_that_lose_their_steps_are_refused(part):
    with pytest.raises(SuiteError, match="leave weights at fp32; compute: bf16"):
        planned(**{part: {"weights": "bf16"}})


def test_two_words_for_one_thing_must_agree():
    for part in ("training", "unlearning"):
        with pytest.raises(SuiteError, match="precision is what compute was called"):
            planned(**{part: {"precision": "bf16", "compute": "tf32"}})
    assert Unlearning.model_validate({"precision": "bf16", "compute": "bf16"}).compute == "bf16"


def test_tf32_is_taken_for_a_steps_forward_and_backward_alone(loop_parts):
    before, seen = tensor_float_switches(), []
    ctx, phases = loop_parts(lambda: seen.append(tensor_float_switches()["matmul"]))
    for compute in ("tf32", "fp32"):
        Loop(
            ctx,
            phases,
            Unlearning(compute=compute, batch_size=64),
            lambda ctx: seen.append(tensor_float_switches()["matmul"]),
        ).run()
    off = before["matmul"]
    assert seen == [
        off,
        "tf32",
        "tf32",
        off,
        off,
        off,
        off,
        off,
    ]  # at the start; the forward, the backward and after it; the same in fp32
    assert tensor_float_switches() == before
    with pytest.raises(KeyError), tensor_float("tf32"):
        raise KeyError
    assert tensor_float_switches() == before


class Noticed(torch.autograd.Function):
    """The identity, which notices its passes."""

    @staticmethod
    def forward(ctx, loss, notice):
        ctx.notice = notice
        notice()
        return loss * 1

    @staticmethod
    def backward(ctx, gradient):
        ctx.notice()
        return gradient, None


@pytest.fixture
def loop_parts():
    """One step on digits, whose loss calls ``notice`` in its forward and its backward pass."""
    from mubench_ray.training.context import Context
    from mubench_ray.training.data import Rows, UnlearningData
    from mubench_ray.training.meter import Meter
    from mubench_ray.training.phase import Phase

    def make(notice):
        task, splits = load_task("digits", 300, None)
        model = get_model("cnn-small")
        data = UnlearningData(task, model, {"forget": Rows(splits.train, torch.arange(64))})
        ctx = Context(task, model, model.build(task), data, 0, Meter(), 1e-3)

        def loss(ctx: Context, batch: Batch):
            return Noticed.apply(ctx.loss(batch), notice)

        return ctx, [Phase("one", "forget", loss, epochs=1)]

    return make


def test_what_arithmetic_a_row_says():
    assert [compute_at(compute, "cpu") for compute in ("fp32", "tf32", "bf16")] == ["fp32", "fp32", "bf16"]
    assert [compute_at(compute, "cuda:0") for compute in ("tf32", "bf16")] == ["tf32", "bf16"]
    conv, matmul, before = torch.backends.cudnn.conv, torch.backends.cuda.matmul, tensor_float_switches()
    try:
        for switches, told in {
            ("tf32", "none"): "fp32 with tf32 convolutions",  # torch's own
            ("ieee", "ieee"): "fp32",
            ("ieee", "tf32"): "fp32 with tf32 matmul",
            ("tf32", "tf32"): "tf32",
        }.items():
            conv.fp32_precision, matmul.fp32_precision = switches
            assert compute_at("fp32", "cuda") == told
            assert provenance()["fp32_on_cuda"].startswith(f"convolutions {switches[0]}, ")
    finally:
        conv.fp32_precision, matmul.fp32_precision = before["convolutions"], before["matmul"]


def test_frozen_in_bf16_is_one_rounding_of_f_o_and_f_r(tmp_path):
    """f_U starts from the rounded f_O and trains in float32; what the artifacts cost is what their training cost, and it is done once."""
    changes = {"training": {"epochs": 1}, "methods": ["original", "ft", "retrain"], "unlearning": {"batch_size": 64}}
    plain = planned(**changes)
    frozen = planned(**changes | {"unlearning": {"batch_size": 64, "frozen": "bf16"}})
    assert not plain.trials.keys() & frozen.trials.keys() and not plain.recipes.keys() & frozen.recipes.keys()
    assert (
        planned(**changes | {"unlearning": {"batch_size": 64, "frozen": "fp32"}}).trials.keys() == plain.trials.keys()
    )
    settings = [
        {json.dumps(json.loads(t.configuration)["setting"]) for t in plan.trials.values()} for plan in (plain, frozen)
    ]
    assert [len(each) for each in settings] == [1, 1] and settings[0] != settings[1]  # controls, too
    store = ArtifactStore(tmp_path)
    rows = {trial.method: run_trial(trial, store).row for trial in frozen.trials.values()}
    assert {row["status"] for row in rows.values()} <= {"ok", "truncated"}
    for kind in ("original", "retrain"):
        (exact,), (rounded,) = (getattr(plan, f"{kind}s") for plan in (plain, frozen))
        exact, rounded = store.load(exact), store.load(rounded)
        assert (exact.flos, exact.seconds, exact.terms) == (rounded.flos, rounded.seconds, rounded.terms)
        task = load_task("digits", 300, None)[0]
        before, after = (each.load_into(get_model("cnn-small").build(task)) for each in (exact, rounded))
        for ours, theirs in zip(before.parameters(), after.parameters(), strict=True):
            assert torch.equal(ours.bfloat16().float(), theirs)
        assert any(not torch.equal(ours, theirs) for ours, theirs in zip(before.parameters(), after.parameters()))
        assert not np.array_equal(exact.observed.get("test_loss", 0), rounded.observed.get("test_loss", 1))
    trial = next(trial for trial in frozen.trials.values() if trial.method == "ft")
    prepared = prepare(trial, store)
    assert all(torch.equal(p, p.bfloat16().float()) for p in prepared.ctx.network.parameters())
    unlearn(prepared.ctx, prepared.method, trial, lambda ctx: None)
    assert all(p.dtype == torch.float32 for p in prepared.ctx.network.parameters())
    assert any(not torch.equal(p, p.bfloat16().float()) for p in prepared.ctx.network.parameters())
    assert all(torch.equal(p, p.bfloat16().float()) for p in prepared.ctx.original.parameters())
