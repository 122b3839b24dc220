"""Methods beyond pictures: every one on sequences, and those that speak of convolutions on sound, or a refusal with a reason."""

import pytest
import torch

from mubench_ray.conformance import shortest
from mubench_ray.conformance.bench import WatchedContext, WatchedData, WatchedMeter, run
from mubench_ray.methods import METHODS
from mubench_ray.models import MODELS
from mubench_ray.training.data import Rows
from mubench_ray.trial import Unlearning
from tests.models.conftest import loaded, seeded  # noqa: F401 - a fixture

NEEDS_CLASSES = {"fcs", "cfw", "prmq", "delete", "sisa"}
NEEDS_CONVOLUTIONS = {"cfw", "ct"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))


def context(task, splits, model, method):
    network = seeded(lambda: model.build(task))
    rows = torch.arange(min(12, len(splits.train)))
    sets = {"forget": Rows(splits.train, rows[:3]), "retain": Rows(splits.train, rows[3:])}
    if method.uses_validation:
        sets["validation"] = Rows.all_of(splits.validation)
    data = WatchedData(task, model, sets)
    return WatchedContext(task, model, network, data, 1, WatchedMeter(), 1e-3 if method.uses_lr else None)


def settings(method):
    return method.configure({**shortest(method).hyperparameters(), **({"alpha": 1.1} if method.name == "ssd" else {})})


@pytest.mark.parametrize("name", METHODS.names())
def test_on_sequences(name, loaded):  # noqa: F811
    method, model = METHODS.get(name), MODELS.get("t5-tiny")
    task, splits = loaded(model.modality, model.kinds[0])
    refused = NEEDS_CLASSES | NEEDS_CONVOLUTIONS
    reason = method.refusal(type(task)) or method.refusal_for_network(model.build(task))
    assert bool(reason) == (name in refused)
    if reason:
        assert name in reason
        return
    ran = run(settings(method), context(task, splits, model, method), Unlearning(batch_size=4))
    assert all(torch.isfinite(tensor).all() for tensor in ran.after.values())
    changed = [key for key in ran.before if not torch.equal(ran.before[key], ran.after[key])]
    assert bool(changed) == (name not in ("original", "retrain"))


@pytest.mark.parametrize("name", ["cfw", "prmq", "msg", "ct", "cf_k", "eu_k", "kde", "rni", "ff"])
def test_on_sound(name, loaded):  # noqa: F811
    method, model = METHODS.get(name), MODELS.get("hubert-tiny")
    task, splits = loaded(model.modality, model.kinds[0])
    reason = method.refusal_for_network(model.build(task))
    assert bool(reason) == (name == "ct")  # its kernels have one axis
    if not reason:
        ran = run(settings(method), context(task, splits, model, method), Unlearning(batch_size=4))
        assert all(torch.isfinite(tensor).all() for tensor in ran.after.values())
        assert any(not torch.equal(ran.before[key], ran.after[key]) for key in ran.before)
