"""A pool of shadow models: halves of the training set, and what a model of one half may see and is asked about."""

import numpy as np
import pytest
import torch

from mubench_ray.engine.plan import make_plan, split_name
from mubench_ray.errors import SuiteError
from mubench_ray.forget import halves
from mubench_ray.metrics.u_lira import u_lira
from mubench_ray.results.folder import Folder
from mubench_ray.results.score import score, stack
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task, training_data, unlearning_data
from mubench_ray.trials.run_trial import metric_names, run_trial

POOL = {
    "name": "pool",
    "tasks": {"name": "digits", "subset": 200},
    "models": "cnn-small",
    "methods": ["original", "retrain", {"name": "ft", "epochs": 1}],
    "ratios": 20,
    "seeds": 1,
    "forget_seeds": [0, 1],
    "halves": 4,
    "lrs": 1e-3,
    "training": {"epochs": 2},
}


@pytest.mark.parametrize("size", [10, 11, 500])
def test_every_example_is_in_exactly_one_of_a_pair_of_halves(size):
    seen = [halves(size, half) for half in range(6)]
    for inside, outside in seen:
        assert sorted([*inside.tolist(), *outside.tolist()]) == list(range(size))
    assert {len(inside) for inside, _ in seen} == {size // 2}, "a larger half would be told from the others"
    for half in (0, 2, 4):
        both = torch.cat([seen[half][0], seen[half + 1][0]])
        assert len(both.unique()) == len(both) == size - size % 2
    assert not torch.equal(seen[0][0], seen[2][0])


def test_the_pool_is_shared_by_all_methods():
    plan = make_plan(make_suite(POOL))
    assert (len(plan.originals), len(plan.retrains), len(plan.trials)) == (4, 8, 3 * 4 * 2)
    assert len({split_name(recipe) for recipe in plan.retrains}) == 8


def test_a_shadow_model_sees_its_half_only():
    _, splits = load_task("digits", 200, None)
    for trial in make_plan(make_suite(POOL)).trials.values():
        _, own, forget = unlearning_data(trial, None, "cpu")
        inside, outside = halves(len(splits.train), trial.half)
        source = splits.train.source_index
        assert set(own.train.source_index.tolist()) == set(source[inside].tolist())
        assert set(own.unseen.source_index.tolist()) == set(source[outside].tolist())
        assert len(forget.forget) == 20 and len(forget.forget) + len(forget.retain) == len(inside)
        trained, _, _ = training_data(trial.original, None, "cpu")
        assert len(trained.rows("train")) == len(inside)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """The whole pool, run without Ray."""
    root = tmp_path_factory.mktemp("pool")
    store, artifacts = Store(root / "out"), ArtifactStore(root / "artifacts")
    store.create({"suite": "pool"})
    for trial in make_plan(make_suite(POOL)).trials.values():
        outcome = run_trial(trial, artifacts)
        assert outcome.row["status"] in ("ok", "truncated"), outcome.traceback
        store.write(outcome, metric_names())
    return store


def test_what_was_never_seen_is_stored_and_stands_beside_what_was_forgotten(pool):
    folder = Folder(pool)
    rows = [row for row in folder.finished if row["method"] == "ft"]
    oracles = [row for row in folder.finished if row["method"] == "retrain"]
    assert {len(folder.examples(row["trial_id"])["unseen_confidence"]) for row in rows} <= {100, 101}
    own, others = stack(folder, rows, oracles, "forget")
    assert own.shape[0] == others.shape[0] == 8 and own.shape[1] == others.shape[1]
    assert np.isfinite(own).sum() == 8 * 20, "an example counts as forgotten where it was"
    # A retrain never saw its own D_F, nor what of the others' D_F lies in the other half.
    assert (np.isfinite(others).sum(1) > 20).all()
    for row in oracles:
        examples = folder.examples(row["trial_id"])
        assert not set(examples["retain_index"]) & set(examples["unseen_index"])
    table = score(pool.root, "u_lira")
    assert {row["oracles"] for row in table.to_pylist() if row["method"] == "ft"} == {8}


def test_on_halves_no_leak_is_chance_and_a_leak_is_found():
    """Confidences with the pattern of a real pool: who forgot and who never saw an example follows from its halves."""
    rng, size, pairs, draws = np.random.default_rng(0), 400, 8, 4
    areas = {0.0: [], 2.0: []}
    for leak, found in areas.items():
        for _ in range(6):
            mean, spread = rng.normal(2, 3, size), rng.uniform(0.5, 2, size)
            forgot, never, fold = [], [], []
            for half in range(2 * pairs):
                inside, outside = (part.numpy() for part in halves(size, half))
                for _ in range(draws):
                    chosen = rng.choice(inside, len(inside) // 5, replace=False)
                    ours, theirs = np.full(size, np.nan), np.full(size, np.nan)
                    ours[chosen] = rng.normal(mean, spread)[chosen] + leak * spread[chosen]
                    for part in (chosen, outside):
                        theirs[part] = rng.normal(mean, spread)[part]
                    forgot.append(ours)
                    never.append(theirs)
                    fold.append(half)
            fold = np.array(fold)
            found.append(u_lira(np.array(forgot), np.array(never), fold, fold)["auc"])
    assert np.mean(areas[0.0]) == pytest.approx(0.5, abs=0.02)
    assert np.mean(areas[2.0]) > 0.85


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"halves": 3}, "halves"),
        ({"training_seeds": [1, 2]}, "training_seeds"),
        ({"search": {"seeds": [5]}}, "search"),
        ({"sequence": True}, "sequence"),
    ],
)
def test_what_a_pool_cannot_be_combined_with(changes, said):
    with pytest.raises(SuiteError, match=said):
        make_suite({**POOL, **changes})
