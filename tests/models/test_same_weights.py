"""The same weights in two checkpoints: by what the tensors hold, not by their files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import SuiteError
from mubench_ray.models import get_model
from mubench_ray.models.same_weights import same_weights
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS

SUITE = {
    "name": "s",
    "tasks": {"name": "digits", "subset": 300},
    "methods": ["ft"],
    "ratios": 5,
    "seeds": 1,
    "lrs": 1e-3,
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return get_model("vit-tiny").build(TASKS.get("digits")())


def shards(folder, state, **metadata):
    folder.mkdir()
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: state[name] for name in part}, folder / f"model-{number}.safetensors", metadata=metadata)
    return folder


def test_by_what_tensors_hold(network, tmp_path):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.save_pretrained(tmp_path / "one")
    one, two = tmp_path / "one", shards(tmp_path / "two", state, told="other bytes")
    assert same_weights(one, two) and same_weights(two, one)
    half = shards(tmp_path / "half", {name: value.bfloat16() for name, value in state.items()})
    assert same_weights(one, half) and same_weights(half, one)
    prefixed = shards(tmp_path / "prefixed", {f"module.{name}": value for name, value in state.items()})
    assert same_weights(prefixed, one)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "state.pth")
    assert same_weights(tmp_path / "state.pth", one)

    name = (
        "vit.encoder.layer.0.output.dense.weight"
        if "vit.encoder.layer.0.output.dense.weight" in state
        else sorted(state)[0]
    )
    moved = dict(state) | {name: state[name] + 0.01}
    assert not same_weights(shards(tmp_path / "moved", moved), one)
    other_head = {n: value + 0.5 if n.startswith("classifier") else value for n, value in state.items()}
    assert not same_weights(shards(tmp_path / "head", other_head), one)
    base = {n: value for n, value in state.items() if not n.startswith("classifier")}
    assert not same_weights(one, shards(tmp_path / "base", base)), (
        "the base of a network is no network trained on the task"
    )
    assert not same_weights(one, tmp_path / "nothing") and not same_weights("some/id@abc", one)
    (tmp_path / "damaged.safetensors").write_bytes(b"123")
    assert not same_weights(tmp_path / "damaged.safetensors", one)


def planned(model, task=None):
    return make_plan(make_suite(SUITE | {"models": {"name": "vit-tiny", **model}} | ({"tasks": task} if task else {})))


def test_an_original_that_is_its_own_base_is_refused(network, tmp_path):
    network.save_pretrained(tmp_path / "one")
    copy = shards(tmp_path / "copy", {name: value.clone() for name, value in network.state_dict().items()})
    (copy / "config.json").write_text((tmp_path / "one" / "config.json").read_text())
    index = {
        "metadata": {},
        "weight_map": {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(network.state_dict()))},
    }
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    for base in (copy, tmp_path / "one", f"{tmp_path}/./one"):
        with pytest.raises(SuiteError, match="hold the same weights: the retrain would start from what has seen D_F"):
            planned({"original": str(tmp_path / "one"), "pretrained": str(base)})
    torch.manual_seed(4)
    get_model("vit-tiny").build(TASKS.get("digits")()).save_pretrained(tmp_path / "base")
    (trial,) = planned({"original": str(tmp_path / "one"), "pretrained": str(tmp_path / "base")}).trials.values()
    assert '"original_checkpoint"' in trial.configuration


@pytest.mark.parametrize("more", [{}, {"saw": "D"}, {"original_from": "random"}])
def test_what_is_declared_of_an_original_is_no_part_of_any_id(network, tmp_path, more):
    network.save_pretrained(tmp_path / "one")
    original = {"original": str(tmp_path / "one")}
    plain, declared = planned(original), planned(original | more)
    assert [*plain.trials] == [*declared.trials] and [*plain.recipes] == [*declared.recipes]
    told = " ".join(declared.suite.notes)
    assert ("saw: train" in told) == ("saw" not in more) and ("unequal terms" in told) == ("original_from" not in more)


def test_an_original_that_has_seen_d_v_needs_another_one(network, tmp_path):
    network.save_pretrained(tmp_path / "one")
    original = {"original": str(tmp_path / "one"), "saw": "train"}
    with pytest.raises(SuiteError, match=r"D_V is a part of that.*tasks: \{name: digits, validation: test-half\}"):
        planned(original)
    (trial,) = planned(original, {"name": "digits", "validation": "test-half"}).trials.values()
    assert (trial.saw, trial.validation) == ("train", "test-half")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"saw": "train"}, "saw says something of an original"),
        ({"original_from": "random"}, "original_from says something of an original"),
        ({"original": "x", "pretrained": "y", "original_from": "random"}, "the retrain would start from more"),
        ({"original": "x", "original_from": "pretrained"}, "name what it started from as `pretrained`"),
        ({"original": "x", "saw": "test"}, "saw = 'test'"),
    ],
)
def test_declarations_that_say_nothing_are_refused(model, said):
    with pytest.raises(SuiteError, match=said):
        planned(model)


def test_a_hub_id_in_two_spellings_is_one_checkpoint():
    from mubench_ray.engine.plan import checkpoint_source

    assert checkpoint_source("resnet50", "published") == checkpoint_source(
        "resnet50", checkpoint_source("resnet50", "published")
    )
