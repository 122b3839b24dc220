import copy

import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.suite import make_suite
from mubench_ray.tasks.base import Task
from mubench_ray.training.data import Rows
from mubench_ray.trial import Training, Unlearning
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import prepare, unlearn
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
    with pytest.raises(MubenchError, match="leave lora out"):
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


def at_slices(case, few):
    """A case whose D_F is the ``few`` positions, and where the request's positions lie: (shard, slice) of every training example."""
    size = len(case.ctx.data.rows("retain").examples)
    draw = [
        torch.randint(parts, (size,), generator=case.ctx.generator(name))
        for parts, name in ((2, "sisa"), (3, "sisa slices"))
    ]
    forget = case.ctx.data.rows("forget")
    everything = torch.cat([case.ctx.data.rows("retain").positions, forget.positions]).sort().values
    case.ctx.data.sets["forget"] = Rows(forget.examples, torch.tensor(few))
    case.ctx.data.sets["retain"] = Rows(forget.examples, everything[~torch.isin(everything, torch.tensor(few))])
    return draw


def test_slices_come_in_one_by_one_and_cost_what_no_slices_cost(prepared):
    phases = prepared.method("sisa", shards=2, slices=3).phases(prepared.ctx)
    shard_of, slice_of = at_slices(prepared, prepared.ctx.data.rows("forget").positions.tolist())
    retain = set(prepared.ctx.data.rows("retain").positions.tolist())
    seen = 0
    for phase in phases:
        words = phase.name.split()
        shard, last = int(words[1]), int(words[-1])
        expected = {p for p in retain if shard_of[p] == shard and slice_of[p] <= last}
        assert set(prepared.ctx.data.rows(phase.on).positions.tolist()) == expected
        assert phase.epochs == RECIPE.epochs / 2  # 2 / (3 + 1)
        seen += phase.epochs * len(expected)
    hit = {p % 48 for p in prepared.ctx.data.rows("forget").positions.tolist()}
    assert hit and seen <= RECIPE.epochs * len(retain) * 1.3


def test_a_request_sets_a_shard_back_to_its_first_slice_that_it_touches(make_case):
    found = {}
    for position in range(48):
        case = make_case()
        case.ctx.training = RECIPE
        shard_of, slice_of = at_slices(case, [position])
        phases = case.method("sisa", shards=2, slices=3).phases(case.ctx)
        shard, touched = int(shard_of[position]), int(slice_of[position])
        assert [phase.name for phase in phases] == [f"shard {shard} up to slice {i}" for i in range(touched, 3)]
        found[(shard, touched)] = case
        if len(found) == 6:
            break
    assert len(found) == 6
    for case in found.values():  # charged: nothing yet; all that came before was free
        assert case.ctx.meter.flos == 0


def test_ids_of_trials_without_slices_are_those_of_before_there_were_any(prepared):
    assert prepared.method("sisa", shards=3).hyperparameters() == {"shards": 3}
    assert prepared.method("sisa", shards=3, slices=2).hyperparameters() == {"shards": 3, "slices": 2}


@pytest.mark.parametrize("kept", [True, False])
def test_a_sequence_of_deletions_goes_on_from_its_own_ensemble(tiny, tmp_path, kept):
    entry = {"name": "sisa", "shards": 3, "slices": 2}
    given = {**tiny, "methods": entry, "ratios": [1, 2], "sequence": True, "training": {"epochs": 1}}
    one, two = sorted(make_plan(make_suite(given)).trials.values(), key=lambda trial: trial.ratio)
    store = ArtifactStore(tmp_path)
    assert run_trial(one, store, keep=kept).row["status"] == "ok"
    first = previous_ensemble(two, store)
    prepared = prepare(two, store)
    unlearn(prepared.ctx, prepared.method, two, lambda ctx: None)
    new = prepared.ctx.data.rows("forget").positions
    shard_of = torch.randint(
        3, (len(prepared.ctx.data.rows("forget").examples),), generator=prepared.ctx.generator("sisa")
    )
    hit = set(shard_of[new].tolist())
    assert 0 < len(hit) <= 3
    for shard in range(3):
        before, after = (net.members[shard].state_dict() for net in (first, prepared.ctx.network))
        same = all(torch.equal(before[name], after[name]) for name in before)
        assert same == (shard not in hit)
    row = run_trial(two, store).row
    assert (row["status"], row["forget_size"]) == ("ok", 6), row["error"]


def previous_ensemble(trial, store):
    return prepare(trial, store).ctx.network


def test_too_many_shards_for_the_data_are_left_out_of_the_plan(tiny):
    plan = make_plan(make_suite({**tiny, "methods": ["ft", {"name": "sisa", "shards": 4, "slices": 4}]}))
    assert {trial.method for trial in plan.trials.values()} == {"ft"}
    assert "300 training examples" in plan.left_out[0].reason
