import copy

import pytest
import torch

from mubench_ray.engine.artifacts import ArtifactStore
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run_trial import run_trial
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.suite import make_suite
from mubench_ray.tasks.base import Task
from mubench_ray.training.data import Rows
from mubench_ray.trial import Training, Unlearning
from tests.methods.conftest import assert_same, ce, descend, logits

RECIPE = Training(optimizer="sgd", lr=0.1, momentum=0.0, epochs=2, batch_size=64)


@pytest.fixture
def prepared(case):
    case.ctx.training = RECIPE
    return case


def parts(case, shards):
    return {s: case.ctx.data.sets[f"shard {s}"].positions for s in range(shards)}


def test_every_shard_is_trained_from_scratch_on_its_part_of_the_retain_set(prepared):
    case = prepared
    case.run("sisa", shards=3)
    shards = parts(case, 3)
    assert sorted(torch.cat(list(shards.values())).tolist()) == case.ctx.data.rows("retain").positions.tolist()
    for shard, positions in shards.items():
        member = case.ctx.fresh_network(f"shard {shard}").train()
        for _ in range(2):
            descend(member, ce(member, *case.at(positions)), lr=0.1)
        assert_same(case.ctx.network.members[shard], member)


def test_shards_are_trained_by_the_recipe_of_the_original(prepared):
    phases = prepared.method("sisa", shards=2).phases(prepared.ctx)
    for phase in phases:
        spec = phase.optimizer
        assert (phase.augment, phase.epochs, phase.batch_size) == (True, RECIPE.epochs, RECIPE.batch_size)
        assert (spec.kind, spec.lr, spec.momentum, spec.schedule) == ("sgd", 0.1, 0.0, RECIPE.schedule)


def test_it_predicts_the_mean_of_the_shards_probabilities(prepared):
    prepared.run("sisa", shards=3)
    ensemble, (x, _) = prepared.ctx.network.eval(), prepared.set("validation")
    with torch.no_grad():
        mean = torch.stack([logits(member, x).softmax(1) for member in ensemble.members]).mean(0)
        assert torch.allclose(ensemble(pixel_values=x).exp(), mean, atol=1e-6)


def test_nothing_of_the_forget_set_is_seen(prepared):
    prepared.run("sisa", shards=4)
    assert not any(forget.any() for _, forget in prepared.handed)
    assert not prepared.ctx.data.leaked


def test_a_shard_without_anything_to_forget_keeps_its_training_and_it_is_not_charged(make_case):
    costs = {}
    for few in (False, True):
        case = make_case()
        case.ctx.training = RECIPE
        if few:
            forget = case.ctx.data.rows("forget")
            case.ctx.data.sets["forget"] = Rows(forget.examples, forget.positions[:1])
        case.run("sisa", shards=3)
        costs[few] = case.ctx.meter.flos
        shards = parts(case, 3)
        for shard, positions in shards.items():  # trained all the same
            member = case.ctx.fresh_network(f"shard {shard}").train()
            for _ in range(2):
                descend(member, ce(member, *case.at(positions)), lr=0.1)
            assert_same(case.ctx.network.members[shard], member)
    affected = [len(p) for p in shards.values() if costs[True] == pytest.approx(costs[False] * len(p) / 40)]
    assert len(affected) == 1


def test_the_first_shards_are_left_as_they_are_while_the_last_is_trained(prepared):
    case = prepared
    case.ctx.keep_original()
    phases = case.method("sisa", shards=2).phases(case.ctx)
    before = copy.deepcopy(case.ctx.network.members[0].state_dict())
    from mubench_ray.training.loop import Loop

    Loop(case.ctx, phases[1:], Unlearning()).run()
    assert all(torch.equal(before[n], t) for n, t in case.ctx.network.members[0].state_dict().items())


def test_lora_and_tasks_without_classes_are_refused(prepared):
    with pytest.raises(MubenchError, match="LoRA"):
        prepared.run("sisa", Unlearning(lora=0.2))

    class Summaries(Task):
        name, kind = "summaries", "generation"

    assert "averages" in METHODS.get("sisa").refusal(Summaries)


def test_a_whole_trial_ends_well_and_has_no_distance_to_the_retrain_s_parameters(tiny, tmp_path):
    suite = make_suite({**tiny, "methods": {"name": "sisa", "shards": 2}, "ratios": 10})
    (trial,) = make_plan(suite).trials.values()
    row = run_trial(trial, ArtifactStore(tmp_path)).row
    assert row["status"] == "ok", row["error"]
    assert row["l2_distance"] is None and row["layer_distance"] is None
    assert row["flos_share"] == pytest.approx(1.0, rel=0.02) and 0 < row["test_accuracy"] <= 1
