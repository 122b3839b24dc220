import json
import os
import subprocess
import sys

from mubench_ray.trial import ForgetSet, Recipe, Training, Trial, Unlearning

TRIAL = {
    "task": "digits", "model": "cnn-small", "method": "scrub", "hyperparameters": {"alpha": 0.5, "msteps": 3}, "forget": {"ratio": 5},
    "seed": 42, "training_seed": 42, "lr": 5e-4, "training": {"epochs": 15},
}  # fmt: skip


def test_ids_are_pinned():
    """Results already on disk are found by these: a change here orphans them all."""
    trial = Trial.model_validate(TRIAL)
    assert trial.id == "dae88644f920ddc2"
    assert trial.original.id == "original-55f9889beb4551aa"
    assert trial.retrain.id == "retrain-81a7be20673410e0"
    assert Trial.model_validate({**TRIAL, "lr": None, "unlearning": {"superloss": 10}}).id == "9c79208061b24f7e"


def test_ids_are_the_same_in_every_process():
    code = f"import json; from mubench_ray.trial import Trial; print(Trial.model_validate(json.loads({json.dumps(json.dumps(TRIAL))})).id)"
    ids = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert ids == {Trial.model_validate(TRIAL).id + "\n"}


def test_an_id_survives_json_and_number_types():
    trial = Trial.model_validate(TRIAL)
    assert Trial.model_validate_json(trial.model_dump_json()).id == trial.id
    assert Trial.model_validate({**TRIAL, "forget": {"ratio": 5.0}, "lr": "5e-4"}).id == trial.id


def test_a_default_spelled_out_is_the_same_trial():
    spelled = {
        **TRIAL,
        "subset": None,
        "after": [],
        "unlearning": Unlearning().model_dump(),
        "training": Training(epochs=15).model_dump(),
    }
    assert Trial.model_validate(spelled).id == Trial.model_validate(TRIAL).id


def test_everything_that_decides_the_outcome_enters_the_id():
    base = Trial.model_validate(TRIAL)
    changes = [
        {"task": "fashion_mnist"}, {"model": "resnet18"}, {"method": "ft"}, {"hyperparameters": {"alpha": 0.4, "msteps": 3}}, {"seed": 43},
        {"training_seed": 1}, {"lr": 1e-4}, {"lr": None}, {"subset": 300}, {"after": [2.0]}, {"training": {"epochs": 16}},
        {"unlearning": {"batch_size": 64}}, {"budget": {"flos": 0.5}}, {"forget": {"ratio": 6}}, {"forget": {"ratio": 5, "seed": 1}},
        {"forget": {"ratio": 5, "sampler": "uniform"}}, {"forget": {"ratio": 5, "options": {"classes": [1]}}},
    ]  # fmt: skip
    ids = [Trial.model_validate({**TRIAL, **change}).id for change in changes]
    assert len({base.id, *ids}) == len(ids) + 1


def test_where_a_list_lies_does_not_enter():
    here, there = (
        Recipe(
            task="t",
            model="m",
            training=Training(),
            seed=1,
            forget=ForgetSet(ratio=5, sampler="from_file", options={"path": path, "sha256": "x"}),
        )
        for path in ("/a", "/b")
    )
    assert here.id == there.id


def test_methods_and_their_settings_share_artifacts():
    one, other = (
        Trial.model_validate(TRIAL),
        Trial.model_validate({**TRIAL, "method": "ft", "seed": 1, "lr": 1e-5, "unlearning": {"lora": 0.1}}),
    )
    assert one.original.id == other.original.id and one.retrain.id == other.retrain.id
