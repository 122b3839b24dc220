"""The drop-in of MU-Bench's listing: unlearning with the names that a Hugging Face Trainer user knows.

>>> from mubench_ray import UnlearningArguments, UnlearningTrainer
>>> args = UnlearningArguments(unlearn_method="scrub", backbone="cnn-small", data_name="digits", del_ratio=5)
>>> trainer = UnlearningTrainer(args)  # doctest: +SKIP
>>> trainer.train(); trainer.evaluate()  # doctest: +SKIP
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import nn

from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.trial import Trial

if TYPE_CHECKING:
    from mubench_ray.training.context import Context

#: What the parts of a suite are called here, for messages.
_ARGUMENTS = {
    "tasks[0].name": "data_name",
    "tasks[0].subset": "subset",
    "tasks[0].validation": "validation",
    "models[0].name": "backbone",
    "methods[0].name": "unlearn_method",
    "methods[0]": "unlearn_method",
    "ratios[0]": "del_ratio",
    "forget_seeds[0]": "data_seed",
    "seeds[0]": "seed",
    "lrs[0]": "learning_rate",
    "unlearning.optimizer": "optim",
    "unlearning.batch_size": "per_device_train_batch_size",
    "unlearning.weight_decay": "weight_decay",
    "unlearning.clip": "max_grad_norm",
}


@dataclass
class UnlearningArguments:
    """What to unlearn, from what and how.

    ``del_ratio`` is percent of the training set; ``learning_rate`` "default" is the method's own for the optimiser; ``num_train_epochs`` None takes the
    method's own; ``method_kwargs`` are its hyperparameters; ``training_kwargs`` change how the original and the retrain are trained; ``subset`` keeps only so
    many training examples; ``validation="test-half"`` has D be all of the training list, D_V half of the test set. Originals and retrains are kept in
    ``output_dir``/artifacts and shared by every trainer that names the same folder.
    """

    unlearn_method: str
    backbone: str
    data_name: str
    del_ratio: float
    output_dir: str = "unlearned"
    learning_rate: float | Literal["default"] = 5e-5
    num_train_epochs: float | None = None
    per_device_train_batch_size: int = 32
    optim: str = "adam"
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    bf16: bool = False
    seed: int = 42
    data_seed: int = 42
    data_dir: str | None = None
    subset: int | None = None
    validation: str | None = None
    use_cpu: bool = False
    method_kwargs: dict[str, Any] = field(default_factory=dict)
    training_kwargs: dict[str, Any] = field(default_factory=dict)

    def to_trial(self) -> Trial:
        """The one trial that these arguments name; raises SuiteError naming the argument that does not validate."""
        from mubench_ray.engine.plan import make_plan
        from mubench_ray.suite import make_suite

        method = {"name": self.unlearn_method, **self.method_kwargs}
        if self.num_train_epochs is not None:
            method["epochs"] = self.num_train_epochs
        content = {
            "name": "trainer",
            "tasks": {"name": self.data_name, "subset": self.subset, "validation": self.validation},
            "models": self.backbone,
            "methods": method,
            "ratios": self.del_ratio,
            "seeds": self.seed,
            "forget_seeds": self.data_seed,
            "lrs": self.learning_rate,
            "training": self.training_kwargs,
            "unlearning": {
                "optimizer": self.optim,
                "batch_size": self.per_device_train_batch_size,
                "weight_decay": self.weight_decay,
                "clip": self.max_grad_norm,
                "compute": "bf16" if self.bf16 else "fp32",
            },
        }
        try:
            plan = make_plan(make_suite(content, "UnlearningArguments"))
        except SuiteError as error:
            message = str(error)
            for part, argument in _ARGUMENTS.items():
                message = message.replace(f": {part}", f": {argument}")
            raise SuiteError(message) from None
        return next(iter(plan.trials.values()))


class TrainOutput(NamedTuple):
    """What ``train`` returns: steps taken in all phases, no loss (methods' losses are not comparable), and what was spent."""

    global_step: int
    training_loss: float | None
    metrics: dict[str, float]


@dataclass
class TrainerState:
    """Where unlearning stands: steps taken, FLOs spent, whether the budget ended it, and the evaluations made on the way.

    An entry of ``log_history`` has ``step``, ``flos``, ``seconds``, ``retrain_share`` (FLOs as a share of the retrain's) and accuracy and loss on
    samples of D_F, D_R, D_V and D_Test, as ``forget_accuracy``, ...
    """

    global_step: int = 0
    total_flos: float = 0.0
    truncated: bool = False
    log_history: list[dict[str, Any]] = field(default_factory=list)


class UnlearningTrainer:
    """Unlearns one forget set from one trained model, under the budget of its retrain; ``model`` is f_U afterwards."""

    def __init__(self, args: UnlearningArguments) -> None:
        self.args = args
        self.trial = args.to_trial()
        self.model: nn.Module | None = None
        self.state = TrainerState()
        self._metrics: dict[str, float] = {}

    @property
    def log_history(self) -> list[dict[str, Any]]:
        """The state's log history."""
        return self.state.log_history

    def train(self) -> TrainOutput:
        """Unlearn; makes the original and the retrain first where ``output_dir`` has them not. Raises Diverged, DataError, ..."""
        from mubench_ray.trials.artifacts import ArtifactStore
        from mubench_ray.trials.curve import Curve
        from mubench_ray.trials.observing import measure, seen_of
        from mubench_ray.trials.run_trial import costs
        from mubench_ray.trials.unlearning import prepare, unlearn

        device = "cpu" if self.args.use_cpu or not torch.cuda.is_available() else "cuda"
        artifacts = ArtifactStore(Path(self.args.output_dir) / "artifacts")
        prepared = prepare(self.trial, artifacts, self.args.data_dir, device)
        ctx, seen = prepared.ctx, seen_of(prepared, self.trial, artifacts, self.args.data_dir)
        self.model = None
        state = self.state = TrainerState(global_step=-1)
        curve = Curve(self.trial, seen.sets, ctx.task.sampled, prepared.reference_flos, state.log_history)

        def observe(ctx: Context) -> None:
            state.global_step += 1  # the first call comes before the first step
            curve(ctx)
            for point in state.log_history:
                point.setdefault("step", state.global_step)

        state.truncated = unlearn(ctx, prepared.method, self.trial, observe)
        curve.point(ctx)
        state.log_history[-1]["step"] = state.global_step
        state.total_flos = ctx.meter.flos
        spent = costs(ctx.meter, prepared)
        # Where the budget allowed no step the network is the original, whose scores are not the method's.
        values = (measure(seen, spent).values if ctx.stepped else {}) | spent
        self.model, self._data, self._sets = ctx.network, ctx.data, seen.sets
        self._metrics = {name: value for name, value in values.items() if value is not None}
        spent = {"train_runtime": ctx.meter.seconds, "total_flos": ctx.meter.flos, "truncated": float(state.truncated)}
        return TrainOutput(state.global_step, None, spent)

    unlearn = train

    def evaluate(self, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Every metric of the unlearned model, as ``eval_test_accuracy``, ``eval_forget_accuracy``, ``eval_u_mia``, ..."""
        self._unlearned()
        return {f"{metric_key_prefix}_{name}": value for name, value in self._metrics.items()}

    def predict(self, split: str = "test") -> dict[str, Any]:
        """``loss``, ``correct``, ``confidence``, ``label`` and ``index`` of every example of ``forget``, ``retain``, ``validation`` or ``test``."""
        from mubench_ray.training.evaluate import evaluate

        model = self._unlearned()
        if split not in self._sets:
            raise MubenchError(f"split {split!r} is none of {sorted(self._sets)}.")
        return evaluate(model, self._data, self._sets[split])

    def save_model(self, output_dir: str | None = None) -> Path:
        """Write ``model.safetensors`` and all that the network reads with (of transformers' networks as transformers saves them), ``trial.json`` and
        ``arguments.json``; returns the folder, which can be an ``original:`` of a suite."""
        model = self._unlearned()
        folder = Path(output_dir or self.args.output_dir)
        self._data.model.save(model, self._data.task, folder)
        (folder / "trial.json").write_text(self.trial.model_dump_json(indent=2))
        (folder / "arguments.json").write_text(json.dumps(asdict(self.args), indent=2))
        return folder

    def _unlearned(self) -> nn.Module:
        if self.model is None:
            raise MubenchError("nothing is unlearned yet: call train() first.")
        return self.model
