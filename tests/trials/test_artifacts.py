import json

import pytest
import torch
from torch import nn

from mubench_ray.engine.plan import make_plan
from mubench_ray.models import MODELS
from mubench_ray.results.storage import StorageLost
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore, Damaged
from mubench_ray.trials.data import training_data
from mubench_ray.trials.originals import get_artifact


@pytest.fixture
def retrain(tiny):
    plan = make_plan(make_suite({**tiny, "methods": "retrain", "ratios": 10, "training": {"epochs": 1}}))
    return next(iter(plan.retrains))


def weights(artifact, recipe):
    data, _, _ = training_data(recipe, None, "cpu")
    return artifact.load_into(MODELS.get(recipe.model).build(data.task)).state_dict()


def test_made_once_and_the_same_when_made_again(retrain, tmp_path):
    first = get_artifact(retrain, ArtifactStore(tmp_path / "a"))
    written = (first.folder / "meta.json").stat().st_mtime_ns
    assert (get_artifact(retrain, ArtifactStore(tmp_path / "a")).folder / "meta.json").stat().st_mtime_ns == written
    second = get_artifact(retrain, ArtifactStore(tmp_path / "b"))
    assert first.flos == second.flos > 0
    for (name, one), other in zip(weights(first, retrain).items(), weights(second, retrain).values()):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("name", ["weights.safetensors", "observed.npz", "meta.json"])
def test_a_damaged_artifact_is_noticed_and_made_anew(retrain, tmp_path, name):
    store = ArtifactStore(tmp_path)
    folder = get_artifact(retrain, store).folder
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Damaged):
        store.load(retrain)
    get_artifact(retrain, store)
    store.load(retrain)
    assert not list(tmp_path.glob(".*")), "nothing half-written or damaged stays"


@pytest.mark.parametrize(
    "make", [lambda store, recipe: get_artifact(recipe, store), lambda store, recipe: store.keep("t1", nn.Linear(1, 1))]
)
def test_a_folder_that_cannot_be_made_is_lost_storage(retrain, tmp_path, make):
    """No trial is at fault: the run ends, and the same command goes on when the folder can be made."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageLost, match=r"file.* cannot be written"):
        make(ArtifactStore(tmp_path / "file" / "artifacts"), retrain)


def test_retrain_never_sees_the_forget_set(retrain):
    data, splits, forget = training_data(retrain, None, "cpu")
    assert set(data.sets) == {"retain"}
    seen = torch.cat(
        [batch["index"] for batch, _ in zip(data.passes("retain", 32, ("s",)), range(data.steps("retain", 32, 1)))]
    )
    assert not set(seen.tolist()) & set(forget.forget.tolist())
    assert len(seen) == len(splits.train) - len(forget.forget)


def test_a_retrain_carries_its_cost_and_what_it_does(retrain, tmp_path):
    artifact = get_artifact(retrain, ArtifactStore(tmp_path))
    assert artifact.seconds > 0
    assert {
        f"{split}_{what}"
        for split in ("forget", "retain", "validation", "test")
        for what in ("loss", "correct", "confidence")
    } <= set(artifact.observed)
    meta = json.loads((artifact.folder / "meta.json").read_text())
    assert meta["recipe"]["forget"]["ratio"] == 10
