"""Samplers that read scoring networks: what they order by, which networks those are, and what of them enters ids and the plan."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from mubench_ray.console import show_plan
from mubench_ray.engine.plan import make_plan, split_name
from mubench_ray.engine.schedule import Schedule
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.forget import SAMPLERS, Draw, halves, split_forget
from mubench_ray.forget.scored import scoring_networks
from mubench_ray.models import MODELS
from mubench_ray.results.configurations import setting_names
from mubench_ray.results.submission import forget_name, redraw
from mubench_ray.suite import make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.originals import forget_split, scores_for
from mubench_ray.trials.rerun import versions_told
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.versions import versioned


def trials(base, **changes) -> list[Trial]:
    return list(make_plan(make_suite({**base, "methods": "retrain", **changes})).trials.values())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The networks that tests of this file train once."""
    return ArtifactStore(tmp_path_factory.mktemp("artifacts"))


@pytest.mark.parametrize(("sampler", "sign"), [("hardest", -1), ("easiest", 1)])
def test_the_loss_of_one_network_decides_for_all_seeds(base, store, sampler, sign):
    first, second = trials(base, sampler=sampler)
    assert first.training_seed != second.training_seed and first.forget == second.forget
    split = forget_split(first, store)
    (scores,) = scores_for(first.forget, store)
    order = np.argsort(sign * scores["loss"], kind="stable")
    assert sorted(order[:30].tolist()) == split.forget.tolist()
    assert torch.equal(forget_split(second, store).forget, split.forget)
    assert split.manifest["scored_by"] == first.forget.scored_by.id
    row = run_trial(first, store).row
    assert (row["status"], row["forget_sha256"]) == ("ok", split.manifest["sha256"])
    # The retrain was trained without just these.
    made = json.loads((store.root / first.retrain.id / "meta.json").read_text())
    assert made["forget_sha256"] == split.manifest["sha256"]


def test_the_network_is_never_an_original_and_is_trained_like_one(base):
    (trial, _) = trials(base, sampler="hardest")
    network, original = trial.forget.scored_by, trial.original
    assert network.kind == "scoring" and network.id.startswith("scoring-")
    assert network.seed >= 2**32, "no suite can name it"
    differing = {"seed": network.seed, "scoring": True}
    assert original.model_dump() | differing == network.model_dump()


def test_the_network_enters_the_identity_of_the_forget_set(base):
    plain = trials(base, sampler="hardest")[0]
    other = trials(base, sampler="hardest", training={"epochs": 5})[0]
    assert plain.forget.scored_by.id != other.forget.scored_by.id
    named = trials(base, sampler={"name": "hardest", "model": "vit-tiny"})[0]
    assert named.forget.scored_by.model == "vit-tiny" and named.forget.options == {}
    ids = [
        (each.id, each.retrain.id, each.original.id, each.configuration, split_name(each)) for each in (plain, named)
    ]
    assert [one == two for one, two in zip(*ids)] == [False, False, True, False, False]
    # Of its own model it is the same whether that is named or not, and through a row and back.
    again = trials(base, sampler={"name": "hardest", "model": "cnn-small"})[0]
    assert again.id == plain.id == Trial.model_validate_json(plain.model_dump_json()).id
    assert "scoring-" in json.loads(plain.configuration)["setting"]["scored_by"]


def test_a_named_model_scores_for_all_models_of_a_suite(base):
    models = ["cnn-small", {"name": "vit-tiny", "training": {"epochs": 2}}]
    found = trials(base, models=models, sampler={"name": "easiest", "model": "vit-tiny"})
    assert len({trial.forget.scored_by.id for trial in found}) == 1
    assert found[0].forget.scored_by.training.epochs == 2, "as the suite trains it"
    assert len({trial.forget.scored_by.id for trial in trials(base, models=models, sampler="easiest")}) == 2
    with pytest.raises(SuiteError, match="model bert-base cannot score digits"):
        trials(base, sampler={"name": "easiest", "model": "bert-base"})


def test_a_raised_version_of_the_network_s_model_is_another_forget_set(base, monkeypatch):
    (trial, _) = trials(base, sampler={"name": "hardest", "model": "vit-tiny"})
    monkeypatch.setattr(MODELS.get("vit-tiny"), "version", 2, raising=False)
    now = versioned(trial)
    assert now.forget.scored_by.versions == {"model": 2} and now.versions == trial.versions
    assert (versions_told(trial), versions_told(now)) == ("{}", '{"scoring network":{"model":2}}')
    assert now.id != trial.id and now.id == trials(base, sampler={"name": "hardest", "model": "vit-tiny"})[0].id


def test_the_plan_makes_networks_before_the_retrains_that_need_them(base):
    plan = make_plan(make_suite({**base, "sampler": "hardest"}))
    assert [recipe.kind for recipe in plan.recipes.values()].count("scoring") == 1
    (network,) = {trial.forget.scored_by.id for trial in plan.trials.values()}
    needs = {name: plan.needs(trial) for name, trial in plan.trials.items()}
    assert all(network in nodes and set(nodes) <= plan.recipes.keys() for nodes in needs.values())
    needs |= {r.id: tuple(n.id for n in scoring_networks(r.forget)) for r in plan.recipes.values()}
    order, schedule = [], Schedule(needs, 8, lambda *_: None, is_artifact=plan.recipes.__contains__)
    while (node := schedule.next()) is not None or not schedule.finished:
        order.append(node)
        schedule.complete(node, "ok")
    assert sorted(order) == sorted(plan.recipes.keys() | plan.trials.keys())
    assert all(order.index(network) < order.index(recipe.id) for recipe in plan.retrains)


def test_a_half_is_scored_by_a_network_of_the_whole(base, store):
    found = trials(
        {name: value for name, value in base.items() if name != "seeds"}, seeds=1, halves=2, sampler="hardest"
    )
    assert len({trial.forget.scored_by.id for trial in found}) == 1
    (scores,) = scores_for(found[0].forget, store)
    for trial in found:
        own = halves(len(scores["loss"]), trial.half)[0].numpy()
        drawn = own[forget_split(trial, store).forget.numpy()]
        assert sorted(own[np.argsort(-scores["loss"][own], kind="stable")][: len(drawn)]) == drawn.tolist()


def test_memorised_is_what_only_those_know_that_saw_it():
    """By Feldman & Zhang's definition, written out."""
    rng = np.random.default_rng(0)
    seen = [np.isin(np.arange(41), halves(41, half)[0].numpy()).astype(float) for half in range(8)]
    correct = [(rng.random(41) < 0.6).astype(float) for _ in seen]
    scores = tuple({"seen": s, "correct": c, "loss": rng.random(41)} for s, c in zip(seen, correct))
    memorisation = [
        np.mean([c[i] for s, c in zip(seen, correct) if s[i]])
        - np.mean([c[i] for s, c in zip(seen, correct) if not s[i]])
        for i in range(41)
    ]
    order = SAMPLERS.get("memorised")().order(None, Draw(10, rng, scores)).tolist()
    assert sorted(order) == list(range(41))
    falling = [memorisation[i] for i in order]
    assert falling == sorted(memorisation, reverse=True)
    for one, two in pairwise(order):
        if memorisation[one] == memorisation[two]:
            gaps = [
                np.mean([np.exp(-e["loss"][i]) for e in scores if e["seen"][i]])
                - np.mean([np.exp(-e["loss"][i]) for e in scores if not e["seen"][i]])
                for i in (one, two)
            ]
            assert gaps[0] >= gaps[1]


def test_memorised_reads_a_network_of_every_half(base, store):
    trial = trials(base, seeds=1, sampler={"name": "memorised", "halves": 4})[0]
    networks = scoring_networks(trial.forget)
    assert [recipe.half for recipe in networks] == [0, 1, 2, 3]
    assert len({recipe.seed for recipe in networks}) == 4 and trial.forget.scored_by == networks[0]
    scores = scores_for(trial.forget, store)
    assert [int(each["seen"].sum()) for each in scores] == [len(scores[0]["seen"]) // 2] * 4
    for each in scores:  # a network knows its own half better
        assert each["loss"][each["seen"] == 1].mean() < each["loss"][each["seen"] == 0].mean()
    row = run_trial(trial, store).row
    assert (row["status"], row["forget_size"]) == ("ok", 30)
    more = trials(base, seeds=1, sampler="memorised")[0]
    assert more.id != trial.id and more.forget.options == {}, "8 is the default"


def test_without_scores_nothing_is_drawn(base):
    (trial, _) = trials(base, sampler="hardest")
    with pytest.raises(MubenchError, match="reads the scores of a network, and none are at hand"):
        split_forget(load_task("digits", 300, None)[1].train, trial.forget)


def test_reports_and_leaderboards_tell_networks_apart(base):
    own, named = (trials(base, sampler={"name": "hardest", "model": name})[0] for name in ("cnn-small", "vit-tiny"))
    assert forget_name(own) != forget_name(named) and own.forget.scored_by.id in forget_name(own)
    assert redraw(own, None) is None, "its manifest is what counts where the network is not at hand"
    names = setting_names([own.configuration, named.configuration])
    assert [model.rpartition(" ")[0] for _, model in names.values()] == ["cnn-small, scored by"] * 2
    assert len(set(names.values())) == 2


def test_the_plan_says_what_is_trained_for_scores_alone(base, capsys):
    show_plan(make_plan(make_suite({**base, "sampler": {"name": "memorised", "halves": 4}})), False)
    assert "2 originals and 2 retrains and 4 scoring networks" in " ".join(capsys.readouterr().out.split())
