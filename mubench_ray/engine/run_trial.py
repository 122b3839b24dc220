"""Run one trial: an ordinary function from a trial to its outcome. Tune and Train are two ways to call it."""

from __future__ import annotations

import json
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from mubench_ray.engine.artifacts import Artifact, ArtifactStore, flatten, get_artifact, held_out
from mubench_ray.engine.workspace import data_for
from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.methods import METHODS, Method
from mubench_ray.metrics import METRICS, compute_all
from mubench_ray.models import MODELS
from mubench_ray.provenance import provenance
from mubench_ray.randomness import derive, torch_generator
from mubench_ray.results.schema import EXAMPLES
from mubench_ray.results.store import Outcome
from mubench_ray.tasks import Splits
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import Observed, evaluate
from mubench_ray.training.lora import add_lora, merge_lora
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.superloss import SuperLoss
from mubench_ray.trial import Trial

#: Shares of the retrain's FLOs at which the curve is evaluated.
CURVE_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
#: Examples of each split that a curve point is evaluated on, and of D_R that the examples table keeps.
SAMPLE = 1000


def run_trial(
    trial: Trial, artifacts: ArtifactStore, data_dir: str | Path | None = None, device: str = "cpu", concurrency: int = 1
) -> Outcome:
    """Unlearn and evaluate one trial. Never raises for what goes wrong inside: the row says ``diverged``, ``out_of_memory`` or ``failed``."""
    started = datetime.now(UTC)
    clock = time.perf_counter()
    row = planned_row(trial) | {"device": device_name(device), "concurrency": concurrency, "started_at": started}
    outcome = Outcome(row)
    try:
        _unlearn(trial, artifacts, data_dir, device, concurrency, outcome)
    except Diverged as error:
        row |= {"status": "diverged", "error": str(error)}
    except (MemoryError, torch.OutOfMemoryError) as error:
        row |= {"status": "out_of_memory", "error": one_line(error)}
        outcome.traceback = traceback.format_exc()
    except MubenchError as error:
        row |= {"status": "failed", "error": one_line(error, name=False)}
        outcome.traceback = traceback.format_exc()
    except Exception as error:  # noqa: BLE001 - any fault of a method is this row's truth
        row |= {"status": "failed", "error": one_line(error)}
        outcome.traceback = traceback.format_exc()
    row |= {"finished_at": datetime.now(UTC), "wall_seconds": time.perf_counter() - clock}
    return outcome


def _unlearn(
    trial: Trial, artifacts: ArtifactStore, data_dir: str | Path | None, device: str, concurrency: int, outcome: Outcome
) -> None:
    row = outcome.row
    method = METHODS.get(trial.method).configure(trial.hyperparameters)
    data, splits, forget = data_for(trial, data_dir, device)
    row |= {"forget_size": len(forget.forget), "retain_size": len(forget.retain), "forget_sha256": forget.manifest["sha256"]}

    retrain = get_artifact(trial.retrain, artifacts, data_dir, device)
    row |= {"retrain_flos": retrain.flos, "retrain_seconds": retrain.seconds}
    start = retrain if method.start == "retrain" else get_artifact(trial.original, artifacts, data_dir, device)
    model = MODELS.get(trial.model)
    torch.manual_seed(trial.seed)
    network = start.load_into(model.build(data.task)).to(device)

    meter = budgeted_meter(trial, retrain, device, concurrency)
    if method.start == "retrain":
        meter.load_state_dict({"flos": retrain.flos, "seconds": retrain.seconds, "examples": 0, "per_example": {}})
    ctx = Context(data.task, model, network, data, trial.seed, meter, trial.lr)
    curve = Curve(trial, data, splits, retrain.flos, outcome.curve)
    truncated = unlearn(ctx, method, trial, curve)
    network = ctx.network
    curve.point(ctx)
    row |= {"flos": meter.flos, "seconds": meter.seconds}

    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        raise Diverged("a parameter of the unlearned network is not finite")
    observed = {name: evaluate(network, data, rows) for name, rows in evaluation_sets(data, splits).items()}
    measured = flatten(observed) | {f"retrain_{name}": values for name, values in retrain.observed.items()}
    costs = {"seconds": meter.seconds, "flos": meter.flos, "retrain_seconds": retrain.seconds, "retrain_flos": retrain.flos}
    row |= compute_all(measured | costs | {"ratio": trial.ratio, "seed": trial.seed})
    outcome.examples = examples_table(trial, observed)
    row["status"] = "truncated" if truncated else "ok"


def unlearn(ctx: Context, method: Method, trial: Trial, observer: Any) -> bool:
    """Run a method's phases and its finish under the context's meter; True when the budget cut them short. ``ctx.network`` is f_U afterwards."""
    options = trial.unlearning
    ctx.keep_original()
    if options.superloss is not None:
        ctx.curriculum = SuperLoss(options.superloss)
    if options.lora is not None:
        torch.manual_seed(derive("lora", trial.seed))
        ctx.network = add_lora(ctx.network, options.lora).to(ctx.device)
    truncated = Loop(ctx, method.phases(ctx), options, observer).run()
    ctx.meter.start()
    method.finish(ctx)
    ctx.meter.stop()
    if options.lora is not None:
        ctx.network = merge_lora(ctx.network)
    return truncated


def budgeted_meter(trial: Trial, retrain: Artifact, device: str, concurrency: int) -> Meter:
    """The meter with the trial's caps: shares of what its retrain spent."""
    flos, seconds = trial.budget.flos, trial.budget.seconds
    if seconds == "auto":
        seconds = 1.0 if device.startswith("cuda") and concurrency == 1 else None
    return Meter(
        cap_flos=None if flos is None else flos * retrain.flos,
        cap_seconds=None if seconds is None else seconds * retrain.seconds,
        device=device,
    )


def evaluation_sets(data: UnlearningData, splits: Splits) -> dict[str, Rows]:
    """D_F, D_R, D_V and D_Test."""
    return {"forget": data.rows("forget"), "retain": data.rows("retain")} | held_out(splits)


class Curve:
    """Evaluates f_U on samples of every set each time a share of the retrain's FLOs is passed; off the clock."""

    def __init__(self, trial: Trial, data: UnlearningData, splits: Splits, retrain_flos: float, points: list[dict[str, Any]]) -> None:
        self.trial, self.data, self.retrain_flos, self.points = trial, data, retrain_flos, points
        self.sets = {name: sample(rows, name) for name, rows in evaluation_sets(data, splits).items()}
        self.due = list(CURVE_SHARES)

    def __call__(self, ctx: Context) -> None:
        """Evaluate if the next share has been reached."""
        if self.due and ctx.meter.flos >= self.due[0] * self.retrain_flos:
            self.point(ctx)
            while self.due and ctx.meter.flos >= self.due[0] * self.retrain_flos:
                del self.due[0]

    def point(self, ctx: Context) -> None:
        """Evaluate now, unless the last point is of this very moment."""
        if self.points and self.points[-1]["flos"] == ctx.meter.flos and len(self.points) > 1:
            self.points.pop()
        with ctx.meter.paused():
            point: dict[str, Any] = {
                "trial_id": self.trial.id,
                "flos": ctx.meter.flos,
                "seconds": ctx.meter.seconds,
                "retrain_share": ctx.meter.flos / self.retrain_flos if self.retrain_flos else None,
            }
            for name, rows in self.sets.items():
                observed = evaluate(ctx.network, self.data, rows)
                point |= {f"{name}_accuracy": observed["correct"].mean(), f"{name}_loss": observed["loss"].mean()}
            self.points.append(point)


def sample(rows: Rows, stream: str) -> Rows:
    """At most SAMPLE of the rows, always the same ones."""
    if len(rows) <= SAMPLE:
        return rows
    picked = torch.randperm(len(rows), generator=torch_generator("sample", stream, len(rows)))[:SAMPLE].sort().values
    return Rows(rows.examples, rows.positions[picked])


def examples_table(trial: Trial, observed: dict[str, Observed]) -> pa.Table:
    """The examples table of a trial; of D_R at most SAMPLE rows."""
    parts = []
    for split, columns in observed.items():
        size = len(columns["loss"])
        if split == "retain" and size > SAMPLE:
            keep = torch.randperm(size, generator=torch_generator("sample", split, size))[:SAMPLE].sort().values.numpy()
            columns, size = {name: values[keep] for name, values in columns.items()}, SAMPLE
        named = {"trial_id": pa.array([trial.id] * size), "split": pa.array([split] * size).dictionary_encode()}
        named |= {name: columns[name] for name in ("index", "label", "loss", "correct", "confidence")}
        parts.append(pa.table({field.name: pa.array(named[field.name]).cast(field.type) for field in EXAMPLES}, schema=EXAMPLES))
    return pa.concat_tables(parts)


def planned_row(trial: Trial) -> dict[str, Any]:
    """The columns of a row that are known before anything runs."""
    return {
        "trial_id": trial.id,
        "task": trial.task,
        "model": trial.model,
        "method": trial.method,
        "ratio": trial.ratio,
        "seed": trial.seed,
        "lr": trial.lr,
        "status": "failed",
        "error": None,
        "training_seed": trial.training_seed,
        "forget_seed": trial.forget.seed,
        "sampler": trial.forget.sampler,
        "hyperparameters": json.dumps(trial.hyperparameters, sort_keys=True),
        "options": json.dumps(trial.unlearning.model_dump(exclude_defaults=True), sort_keys=True),
        "uses_validation": METHODS.get(trial.method).uses_validation,
        "trial": trial.model_dump_json(),
        "provenance": json.dumps(provenance()),
    }


def failed_outcome(trial: Trial, reason: str, status: str = "failed") -> Outcome:
    """The row of a trial that could not run at all."""
    now = datetime.now(UTC)
    return Outcome(planned_row(trial) | {"status": status, "error": reason, "started_at": now, "finished_at": now})


def metric_names() -> list[str]:
    """The metric columns of the trials table."""
    return METRICS.names()


def one_line(error: BaseException, name: bool = True) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}" if name else text


def device_name(device: str) -> str:
    """``cpu`` or the accelerator's product name."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def prepare_network_process(threads: int = 1) -> None:
    """Make this process compute the same numbers as any other: one thread a trial, deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def count_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())
