import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_model

from mubench_ray import UnlearningArguments, UnlearningTrainer
from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.metrics import METRICS
from mubench_ray.models import MODELS
from mubench_ray.tasks import TASKS
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial


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
    timed = {"seconds", "retrain_time_efficiency"}
    expected = {name for name in [*METRICS.names(), "flos", "retrain_flos"] if row[name] is not None} - timed
    assert {"test_accuracy", "forget_loss", "u_mia", "retention_deviation"} <= expected
    assert {name: metrics[f"eval_{name}"] for name in expected} == {name: row[name] for name in expected}
    assert output.metrics["total_flos"] == row["flos"] and output.training_loss is None
    assert np.mean(trainer.predict("forget")["correct"]) == row["forget_accuracy"]
    assert len(trainer.predict("forget")["index"]) == row["forget_size"]


def test_the_state_is_a_trainers(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path, unlearn_method="ft", num_train_epochs=2))
    output = trainer.train()
    assert output.global_step == trainer.state.global_step == 2 * 9  # 270 examples in batches of 32
    history = trainer.state.log_history
    assert history[0]["step"] == 0 and history[0]["flos"] == 0 and history[-1]["step"] == output.global_step
    steps = [point["step"] for point in history]
    assert steps == sorted(set(steps))
    assert history[-1]["test_accuracy"] == pytest.approx(trainer.evaluate()["eval_test_accuracy"])
    assert trainer.state.total_flos == history[-1]["flos"] == output.metrics["total_flos"]


def test_the_budget_ends_it_and_the_state_says_so(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path, unlearn_method="ft", num_train_epochs=9))
    output = trainer.train()
    assert trainer.state.truncated and output.metrics["truncated"] == 1
    assert output.global_step == 3 * 9, "as long as the retrain trained"


def test_a_control_takes_no_step(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path, unlearn_method="retrain", num_train_epochs=None))
    assert trainer.train().global_step == 0
    assert trainer.evaluate("final")["final_retention_deviation"] == 0


def test_divergence_is_raised_and_leaves_no_model(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path, unlearn_method="neggrad", learning_rate=1e30, num_train_epochs=5))
    with pytest.raises(Diverged):
        trainer.train()
    assert trainer.model is None


def test_no_ray_is_loaded(tmp_path):
    code = (
        "import sys; from mubench_ray import UnlearningArguments, UnlearningTrainer; "
        f"UnlearningTrainer(UnlearningArguments('ft', 'cnn-small', 'digits', 10, output_dir={str(tmp_path)!r}, subset=100, num_train_epochs=1, "
        "training_kwargs={'epochs': 1})).train(); print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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
        ({"del_ratio": 0}, "del_ratio = 0"),
        ({"learning_rate": -1}, "learning_rate = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"data_seed": 2**32}, f"data_seed = {2**32}"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size = 0"),
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


def test_an_unknown_split_is_named(tmp_path):
    trainer = UnlearningTrainer(arguments(tmp_path, unlearn_method="original", num_train_epochs=None))
    trainer.train()
    with pytest.raises(MubenchError, match="'train' is none of"):
        trainer.predict("train")
