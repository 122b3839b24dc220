"""validation: test-half: D is all of the training list, D_V one half of the test set and D_Test the other, everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mubench_ray.conformance.tasks import check_data
from mubench_ray.engine.estimate import plan_flos
from mubench_ray.engine.plan import make_plan, split_name
from mubench_ray.errors import DataError, SuiteError
from mubench_ray.forget import split_forget
from mubench_ray.results.configurations import setting_names
from mubench_ray.results.submission import forget_name, redraw
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.base import Examples, MappedExamples, Splits, carve_validation
from mubench_ray.tasks.examples import MappedColumn, limit, listed, validated_on_test
from mubench_ray.trainer import UnlearningArguments
from mubench_ray.trial import ForgetSet
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task, split_of, training_data, unlearning_data
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.versions import versioned

RELEASED = Path(__file__).parents[3] / "shared" / "data" / "mubench_forget_lists"
SUITE = {
    "name": "s", "tasks": "digits", "models": "cnn-small", "methods": ["ft"], "ratios": 5, "seeds": 1, "lrs": 1e-3, "training": {"epochs": 1},
}  # fmt: skip
HALF = {"name": "digits", "validation": "test-half"}


def planned(**changes):
    return make_plan(make_suite(SUITE | changes))


def one(**changes):
    (trial,) = planned(**changes).trials.values()
    return trial


def rows(examples):
    return set(examples.source_index.tolist())


def test_the_training_list_is_whole_again_and_the_test_set_has_two_halves():
    _, usual = load_task("digits", None, None)
    _, split = load_task("digits", None, None, "test-half")
    assert rows(split.train) == rows(usual.train) | rows(usual.validation) and len(split.train) == 1442
    assert split.train.source_index.tolist() == sorted(rows(split.train))
    assert rows(split.validation) | rows(split.test) == rows(usual.test)
    assert not rows(split.validation) & rows(split.test) and abs(len(split.validation) - len(split.test)) <= 10
    counts = [part.labels.bincount(minlength=10) for part in (split.validation, split.test)]
    assert bool(((counts[0] - counts[1]).abs() <= 1).all())
    everything = {
        int(i): int(label)
        for part in (usual.train, usual.validation)
        for i, label in zip(part.source_index, part.labels)
    }
    assert all(everything[int(i)] == int(label) for i, label in zip(split.train.source_index, split.train.labels))
    _, cut = load_task("digits", 300, None, "test-half")
    assert (
        len(cut.train) == 300 and rows(cut.test) <= rows(split.test) and rows(cut.validation) <= rows(split.validation)
    )


def test_it_is_another_trial_with_other_artifacts_and_the_default_is_what_it_was():
    usual, half = one(), one(tasks=HALF)
    assert usual.id == one(tasks={"name": "digits", "validation": None}).id and "validation" not in usual.configuration
    assert usual.id != half.id and usual.original.id != half.original.id and usual.retrain.id != half.retrain.id
    assert usual.trained_on("validation").id != half.trained_on("validation").id
    assert split_name(usual) != split_name(half) and forget_name(usual) != forget_name(half)
    names = setting_names({usual.configuration, half.configuration})
    assert sorted(names.values()) == [("digits", "cnn-small"), ("digits (validation test-half)", "cnn-small")]
    scored = one(tasks=HALF, sampler="hardest")
    assert scored.forget.scored_by.validation == "test-half" and versioned(scored) == scored
    both = planned(tasks=["digits", HALF])
    assert len(both.trials) == 2 and len(both.originals) == 2 and len(both.retrains) == 2
    assert plan_flos(planned(tasks=HALF)) == pytest.approx(plan_flos(planned()) * 1442 / 1225)


def test_sizes_of_the_plan_are_those_of_the_whole_list():
    assert len(load_task("digits", None, None, "test-half")[1].train) == TASKS.get("digits").size_of_d(
        None, "test-half"
    )
    with pytest.raises(SuiteError, match="1225 training examples, subset: 1300 is more"):
        planned(tasks={"name": "digits", "subset": 1300})
    assert one(tasks=HALF | {"subset": 1300}).subset == 1300


def test_what_trains_and_what_is_looked_at_are_the_same_halves_everywhere(tmp_path):
    trial = one(tasks=HALF | {"subset": 300}, methods=["kde"])
    _, split = load_task("digits", 300, None, "test-half")
    data, splits, _ = unlearning_data(trial, None, "cpu")
    assert rows(data.rows("validation").examples) == rows(splits.validation) == rows(split.validation)
    kept, _, forget = training_data(trial.retrain, None, "cpu")
    assert rows(kept.rows("retain").examples) == rows(split.train)
    alone, _, _ = training_data(trial.trained_on("validation"), None, "cpu")
    assert rows(alone.rows("validation").examples) == rows(split.validation)
    outcome = run_trial(trial, ArtifactStore(tmp_path))
    assert outcome.row["status"] in ("ok", "truncated") and outcome.row["uses_validation"]
    assert forget.manifest["sha256"] == outcome.row["forget_sha256"] == redraw(trial, None)
    sizes = json.loads(outcome.row["set_sizes"])
    assert (sizes["validation"], sizes["test"]) == (len(split.validation), len(split.test))
    seen = outcome.examples.to_pandas().groupby("split")["index"].agg(set)
    assert seen["validation"] == rows(split.validation) and seen["test"] == rows(split.test)


def test_a_list_of_seven_a_class_keeps_all_of_its_ids(tmp_path):
    """Of the training list without D_V it keeps about 85 %, an uneven number of each class."""
    _, whole = load_task("digits", None, None, "test-half")
    ids = torch.cat(
        [whole.train.source_index[(whole.train.labels == label).nonzero().flatten()[:7]] for label in range(10)]
    )
    np.save(tmp_path / "ids.npy", ids.numpy())
    sampler = {"sampler": {"name": "from_file", "path": str(tmp_path / "ids.npy")}, "ratios": 4.854}
    trial = one(tasks=HALF, **sampler)
    drawn = split_of(trial, trial.forget, None)
    counts = whole.train.labels[drawn.forget].bincount(minlength=10)
    assert drawn.manifest["indices"] == sorted(ids.tolist()) and counts.tolist() == [7] * 10
    usual = load_task("digits", None, None)[1].train
    lost = sum(int(i) not in rows(usual) for i in ids)
    assert lost > 0, "so that the list above is a case of it"


@pytest.mark.skipif(not RELEASED.is_dir(), reason="MU-Bench's released lists are not beside the repository")
@pytest.mark.parametrize("ratio", [1, 10])
def test_a_released_list_keeps_all_ids_and_its_count_of_each_class(ratio):
    """CIFAR-100's pictures are not here: a class stands for each hundred places of the list, of which it then has exactly five a percent."""
    ids = [int(line) for line in (RELEASED / "cifar100.txt").read_text().split()]
    labels = torch.full((50_000,), -1)
    labels[ids] = torch.arange(5000) % 100
    labels[labels < 0] = torch.arange(45_000) % 100
    train, validation = carve_validation(Examples({"labels": labels}, torch.arange(50_000)))
    test = Examples({"labels": torch.arange(10_000) % 100}, torch.arange(10_000))
    usual = Splits(train, validation, test)
    half = validated_on_test(usual, carves_validation=True)
    assert listed(usual, True) == listed(half, False) == 50_000
    forget = ForgetSet(ratio=ratio, sampler="from_file", options={"path": str(RELEASED / "cifar100.txt")})
    drawn = split_forget(half.train, forget, listed=50_000)
    assert set(drawn.manifest["indices"]) == set(ids[: 500 * ratio])
    assert half.train.labels[drawn.forget].bincount().tolist() == [5 * ratio] * 100
    before = split_forget(usual.train, forget, listed=50_000)
    assert set(usual.train.labels[before.forget].bincount().tolist()) != {5 * ratio}


def made(size=60, **more):
    """A carved (D, D_V) of one mapped file, and a test set."""
    column = MappedColumn([np.arange(size, dtype=np.int64)], size)
    labels = torch.arange(size) % 3
    whole = MappedExamples(
        {"labels": labels}, torch.arange(size), mapped={"image": column}, rows=torch.arange(size),
        groups={"of": torch.arange(size) * 2}, published={"p": torch.arange(size) < 5},
    )  # fmt: skip
    test = Examples({"labels": torch.arange(30) % 3}, torch.arange(30))
    return whole, Splits(*carve_validation(whole), test, **more)


def test_mapped_columns_groups_and_published_sets_are_joined_in_order():
    whole, splits = made()
    joined = validated_on_test(splits, carves_validation=True).train
    assert torch.equal(joined.source_index, whole.source_index) and torch.equal(joined.rows, whole.rows)
    picked = torch.tensor([3, 50, 7])
    assert torch.equal(joined.take(picked)["image"], whole.take(picked)["image"])
    assert torch.equal(joined.groups["of"], whole.groups["of"])
    assert torch.equal(joined.published["p"], whole.published["p"])
    assert torch.equal(joined.labels, whole.labels)


def test_a_d_v_of_its_own_list_leaves_d_as_it_is():
    _, splits = made()
    own = replace(splits, validation=Examples({"labels": torch.zeros(5, dtype=torch.int64)}, torch.arange(5)))
    found = validated_on_test(own, carves_validation=False)
    assert found.train is own.train and rows(found.validation) | rows(found.test) == set(range(30))
    with pytest.raises(DataError, match="says `carves_validation = False`"):
        validated_on_test(own, carves_validation=True)
    with pytest.raises(DataError, match="a test set of 1 examples has no two halves"):
        validated_on_test(replace(splits, test=splits.test.select(torch.arange(1))), carves_validation=True)


def test_changed_test_examples_that_are_d_v_are_no_shifted_ones():
    changed = Examples(
        {"labels": torch.arange(60) % 3}, torch.arange(60), groups={"test_row": torch.arange(30).repeat(2)}
    )
    other = Examples({"labels": torch.arange(4)}, torch.arange(4))
    _, splits = made(shifted={"changed": changed, "other": other})
    found = validated_on_test(splits, carves_validation=True)
    left = found.shifted["changed"]
    assert set(left.groups["test_row"].tolist()) == rows(found.test) and len(left) == 2 * len(found.test)
    assert len(found.shifted["other"]) == 4


def test_how_long_the_training_list_is_survives_a_cut():
    _, splits = made()
    known = replace(splits, listed=listed(splits, True))
    assert known.listed == 60 == limit(known, 20).listed
    gap = replace(splits, train=splits.train.select(torch.arange(1, len(splits.train))))
    assert listed(gap, True) == 0


#: The tasks whose data has a list of its own for D_V.
OWN = {"ddi_blurb", "nlvr2", "nlvr2_3", "samsum", "speech_commands", "wiki_bio"}


def test_every_task_of_the_registry_says_where_its_d_v_is_from():
    """What is carved is 15 % of a list, as its card says."""
    ours = {name: TASKS.get(name) for name, _ in TASKS if TASKS.get(name).__module__.startswith("mubench_ray.")}
    assert {name for name, task in ours.items() if not task.carves_validation} == OWN
    for task in (task for name, task in ours.items() if name not in OWN):
        sizes = task.card.sizes
        assert sizes["validation"] == pytest.approx(0.15 * (sizes["train"] + sizes["validation"]), rel=0.02, abs=2), (
            task
        )


def test_the_conformance_suite_holds_a_task_to_what_it_says():
    class Wrong(TASKS.get("digits")):
        carves_validation = False

    said = {finding.name: finding for finding in check_data(Wrong())}
    assert not said["says where D_V is from"].ok
    assert {finding.name: finding for finding in check_data(TASKS.get("digits")())}["says where D_V is from"].ok


def test_the_trainer_takes_it_too():
    given = {"unlearn_method": "ft", "backbone": "cnn-small", "data_name": "digits", "del_ratio": 5}
    usual, half = (UnlearningArguments(**given, **more).to_trial() for more in ({}, {"validation": "test-half"}))
    assert (usual.validation, half.validation) == (None, "test-half") and usual.id != half.id
    with pytest.raises(SuiteError, match="UnlearningArguments: validation = 'half'"):
        UnlearningArguments(**given, validation="half").to_trial()
