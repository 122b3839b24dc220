import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_model

from mubench_ray import UnlearningArguments, UnlearningTrainer
from mubench_ray.engine.artifacts import ArtifactStore
from mubench_ray.engine.run_trial import run_trial
from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS
from mubench_ray.tasks import TASKS


def arguments(tmp_path, **changes):
    given = {
        "unlearn_method": "SalUn", "backbone": "cnn-small", "data_name": "digits", "del_ratio": 10, "output_dir": str(tmp_path),
        "learning_rate": 5e-4, "num_train_epochs": 1, "subset": 300, "training_kwargs": {"epochs": 3},
    }  # fmt: skip
    return UnlearningArguments(**{**given, **changes})


def test_it_is_the_same_trial_as_the_engines(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path))
    output = trainer.train()
    row = run_trial(trainer.trial, ArtifactStore(tmp_path / "artifacts")).row
    metrics = trainer.evaluate()
    for name in ("test_accuracy", "forget_accuracy", "forget_loss", "u_mia", "retention_deviation", "flos"):
        assert metrics[f"eval_{name}"] == row[name]
    assert output.metrics["total_flos"] == row["flos"]
    assert trainer.log_history[-1]["test_accuracy"] == pytest.approx(row["test_accuracy"])
    assert np.mean(trainer.predict("forget")["correct"]) == row["forget_accuracy"]


def test_the_saved_model_is_the_unlearned_one(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path, unlearn_method="neggrad"))
    trainer.unlearn()
    folder = trainer.save_model(str(tmp_path / "saved"))
    network = MODELS.get("cnn-small").build(TASKS.get("digits")())
    load_model(network, folder / "model.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, trainer.model.state_dict()[name]), name
    assert json.loads((folder / "trial.json").read_text())["method"] == "neggrad"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unlearn_method": "scrubb"}, "Did you mean 'scrub'"),
        ({"data_name": "digit"}, "Did you mean 'digits'"),
        ({"del_ratio": 0}, "ratios[0] = 0"),
        ({"learning_rate": -1}, "lrs[0] = -1"),
        ({"method_kwargs": {"taw": 1}}, "'tau'"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, changes, said):
    with pytest.raises(MubenchError) as caught:
        UnlearningTrainer(arguments(tmp_path, **changes))
    assert said in str(caught.value)


def test_nothing_to_evaluate_before_training(tmp_path):
    with pytest.raises(MubenchError, match="call train"):
        UnlearningTrainer(arguments(tmp_path)).evaluate()
