"""The rows of the trials table, built here alone: what of one is known before a trial, when it begins, and where it fails."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import torch

from mubench_ray.errors import Diverged, ends_process, reason_of
from mubench_ray.methods import METHODS
from mubench_ray.metrics.base import metric_versions
from mubench_ray.provenance import provenance
from mubench_ray.results.store import Outcome
from mubench_ray.status import Status
from mubench_ray.trial import Trial


def planned_row(trial: Trial) -> dict[str, Any]:
    """The columns of a row that are known before anything runs."""
    return {
        "trial_id": trial.id,
        "configuration": trial.configuration,
        "task": trial.task,
        "model": trial.model,
        "method": trial.method,
        "ratio": trial.ratio,
        "seed": trial.seed,
        "lr": trial.lr,
        "status": Status.FAILED,
        "error": None,
        "training_seed": trial.training_seed,
        "forget_seed": trial.forget.seed,
        "after": ", ".join(f"{ratio:g}" for ratio in trial.after),
        "sampler": trial.forget.sampler,
        "hyperparameters": json.dumps(trial.hyperparameters, sort_keys=True),
        "options": json.dumps(trial.unlearning.model_dump(exclude_defaults=True), sort_keys=True),
        "uses_validation": METHODS.get(trial.method).uses_validation,
        "trial": trial.model_dump_json(),
        "provenance": json.dumps(provenance()),
        "metric_versions": json.dumps(metric_versions(), sort_keys=True),
    }


def begun_row(trial: Trial, device: str, concurrency: int, workers: int) -> dict[str, Any]:
    """The columns of a row that are known when a trial begins: what is planned, and on what terms it runs."""
    return planned_row(trial) | {
        "device": device_name(device),
        "concurrency": concurrency,
        "workers": workers,
        "compute": compute_of(trial, device),
        "execution": "eager",
        "started_at": datetime.now(UTC),
    }


def failed_outcome(
    trial: Trial, reason: str, status: str = Status.FAILED, workers: int | None = None, traceback: str | None = None
) -> Outcome:
    """The row of a trial that could not run at all, or that nobody could end."""
    now = datetime.now(UTC)
    row = {"status": status, "error": reason, "workers": workers, "started_at": now, "finished_at": now}
    return Outcome(planned_row(trial) | row, traceback=traceback)


def fault_of(error: BaseException) -> tuple[Status, str]:
    """Status and reason of what went wrong in a trial. What ends the process itself is raised again."""
    if isinstance(error, KeyboardInterrupt) or ends_process(error):
        raise error
    if isinstance(error, Diverged):
        return Status.DIVERGED, str(error)
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return Status.OUT_OF_MEMORY if memory else Status.FAILED, reason_of(error)


def device_name(device: str) -> str:
    """``cpu`` or the accelerator's product name."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def compute_of(trial: Trial, device: str) -> str:
    """The precision of the arithmetic that a trial's seconds are of (a retrain's are its training's): ``fp32``, ``bf16``, or ``tf32`` on a GPU of which
    torch takes that for convolutions, as it does unless told otherwise, or for products of matrices."""
    options = trial.training if METHODS.get(trial.method).start == "retrain" else trial.unlearning
    if options.precision == "bf16" or not device.startswith("cuda"):
        return options.precision
    # torch puts an object that has ``conv`` in the place of the module that its types are read from.
    of_convolutions = torch.backends.cudnn.conv.fp32_precision  # pyright: ignore[reportAttributeAccessIssue]
    switches = (of_convolutions, torch.backends.cuda.matmul.fp32_precision)
    return "tf32" if "tf32" in switches else "fp32"
