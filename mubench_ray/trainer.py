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
from typing import Any, NamedTuple

from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.trial import Trial


@dataclass
class UnlearningArguments:
    """What to unlearn, from what and how.

    ``del_ratio`` is percent of the training set; ``num_train_epochs`` None takes the method's own; ``method_kwargs`` are its hyperparameters;
    ``training_kwargs`` change how the original and the retrain are trained; ``subset`` keeps only so many training examples. Originals and
    retrains are kept in ``output_dir``/artifacts and shared by every trainer that names the same folder.
    """

    unlearn_method: str
    backbone: str
    data_name: str
    del_ratio: float
    output_dir: str = "unlearned"
    learning_rate: float = 5e-5
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
    use_cpu: bool = True
    method_kwargs: dict[str, Any] = field(default_factory=dict)
    training_kwargs: dict[str, Any] = field(default_factory=dict)

    def to_trial(self) -> Trial:
        """The one trial that these arguments name; raises SuiteError naming the argument that does not validate."""
        from mubench_ray.engine.plan import make_plan
        from mubench_ray.suite import make_suite

        method = {"name": self.unlearn_method, **self.method_kwargs}
        if self.num_train_epochs is not None:
            method["epochs"] = self.num_train_epochs
        suite = make_suite(
            {
                "name": "trainer",
                "tasks": {"name": self.data_name, "subset": self.subset},
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
                    "precision": "bf16" if self.bf16 else "fp32",
                },
            },
            "UnlearningArguments",
        )
        return next(iter(make_plan(suite).trials.values()))


class TrainOutput(NamedTuple):
    """What ``train`` returns: examples seen, no loss (methods' losses are not comparable), and the metrics."""

    global_step: int
    training_loss: float | None
    metrics: dict[str, float]


class UnlearningTrainer:
    """Unlearns one forget set from one trained model, under the budget of its retrain; ``model`` is f_U afterwards."""

    def __init__(self, args: UnlearningArguments) -> None:
        self.args = args
        self.trial = args.to_trial()
        self.model: nn.Module | None = None
        self.log_history: list[dict[str, Any]] = []
        self._metrics: dict[str, float] = {}

    def train(self) -> TrainOutput:
        """Unlearn; makes the original and the retrain first where ``output_dir`` has them not. Raises Diverged, DataError, ..."""
        from mubench_ray.engine.artifacts import ArtifactStore, flatten
        from mubench_ray.engine.observation import Curve, evaluation_sets
        from mubench_ray.engine.unlearning import prepare, unlearn
        from mubench_ray.metrics import compute_all
        from mubench_ray.training.evaluate import evaluate

        device = "cpu" if self.args.use_cpu else "cuda"
        prepared = prepare(self.trial, ArtifactStore(Path(self.args.output_dir) / "artifacts"), self.args.data_dir, device)
        ctx, retrain = prepared.ctx, prepared.retrain
        sets = evaluation_sets(prepared.splits, prepared.forget)
        self.log_history = []
        curve = Curve(self.trial, sets, retrain.flos, self.log_history)
        truncated = unlearn(ctx, prepared.method, self.trial, curve)
        curve.point(ctx)
        self.model, self._data, self._sets = ctx.network, ctx.data, sets
        observed = {name: evaluate(ctx.network, ctx.data, rows) for name, rows in sets.items()}
        costs = {"flos": ctx.meter.flos, "seconds": ctx.meter.seconds, "retrain_flos": retrain.flos, "retrain_seconds": retrain.seconds}
        reference = {f"retrain_{name}": values for name, values in retrain.observed.items()}
        values = compute_all(flatten(observed) | reference | costs | {"ratio": self.trial.ratio, "seed": self.trial.seed})
        self._metrics = {name: value for name, value in (values | costs).items() if value is not None}
        spent = {"train_runtime": ctx.meter.seconds, "total_flos": ctx.meter.flos, "truncated": float(truncated)}
        return TrainOutput(ctx.meter.examples, None, spent)

    unlearn = train

    def evaluate(self, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Every metric of the unlearned model, as ``eval_test_accuracy``, ``eval_forget_accuracy``, ``eval_u_mia``, ..."""
        self._require_model()
        return {f"{metric_key_prefix}_{name}": value for name, value in self._metrics.items()}

    def predict(self, split: str = "test") -> dict[str, Any]:
        """``loss``, ``correct``, ``confidence``, ``label`` and ``index`` of every example of ``forget``, ``retain``, ``validation`` or ``test``."""
        from mubench_ray.training.evaluate import evaluate

        self._require_model()
        if split not in self._sets:
            raise MubenchError(f"split {split!r} is none of {sorted(self._sets)}.")
        return evaluate(self.model, self._data, self._sets[split])

    def save_model(self, output_dir: str | None = None) -> Path:
        """Write ``model.safetensors``, ``trial.json`` and ``arguments.json``; returns the folder."""
        from safetensors.torch import save_model

        self._require_model()
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / "model.safetensors"))
        (folder / "trial.json").write_text(self.trial.model_dump_json(indent=2))
        (folder / "arguments.json").write_text(json.dumps(asdict(self.args), indent=2))
        return folder

    def _require_model(self) -> None:
        if self.model is None:
            raise MubenchError("nothing is unlearned yet: call train() first.")
