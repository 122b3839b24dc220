"""The rows of the trials table, built here alone: what of one is known before a trial, when it begins, and where it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from mubench_ray.errors import Diverged, ends_process, reason_of
from mubench_ray.methods import METHODS
from mubench_ray.metrics.base import metric_versions
from mubench_ray.provenance import provenance
from mubench_ray.results.store import Outcome
from mubench_ray.status import Status
from mubench_ray.training.precision import compute_at
from mubench_ray.trial import Training, Trial, Unlearning, own_name
from mubench_ray.trials.artifacts import Artifact


def planned_row(trial: Trial) -> dict[str, Any]:
    """The columns of a row that are known before anything runs."""
    return {
        "trial_id": trial.id,
        "configuration": trial.configuration,
        "task": own_name(trial.task),
        "model": own_name(trial.model),
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
    known = {"concurrency": concurrency, "started_at": datetime.now(UTC)}
    return planned_row(trial) | known | terms_of(trial, device, workers)


def failed_outcome(
    trial: Trial,
    reason: str,
    status: str = Status.FAILED,
    workers: int | None = None,
    traceback: str | None = None,
    spent: Mapping[str, float] | None = None,
) -> Outcome:
    """The row of a trial that could not run at all, or that nobody could end; ``spent``: the ``flos`` and ``seconds`` that are known of it."""
    now = datetime.now(UTC)
    row = {"status": status, "error": reason, "workers": workers, "started_at": now, "finished_at": now}
    return Outcome(planned_row(trial) | row | dict(spent or {}), traceback=traceback)


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


def terms_of(trial: Trial, device: str, workers: int = 1) -> dict[str, Any]:
    """On what terms a trial's seconds are spent here: the columns ``device``, ``compute``, ``execution`` and ``workers``. Seconds are compared, averaged and
    capped only where these are equal."""
    options = trial.training if METHODS.get(trial.method).start == "retrain" else trial.unlearning
    return terms_at(options, device, workers)


def terms_at(options: Training | Unlearning, device: str, workers: int = 1) -> dict[str, Any]:
    """On what terms a loop with these options spends its seconds on a device."""
    compute = compute_at(options.compute, device)
    return {"device": device_name(device), "compute": compute, "execution": "eager", "workers": workers}


def unlike_terms(retrain: Artifact, trial: Trial, terms: Mapping[str, Any]) -> str | None:
    """Why the seconds of a retrain say nothing beside those that a trial spends on ``terms``; None where they do.

    An earlier release wrote down neither device nor arithmetic: its retrains are like where they come from this very machine and were trained in the
    precision that the trial unlearns in.
    """
    theirs = retrain.terms
    if theirs is None:
        if retrain.host != provenance()["host"]:
            return "an earlier release made the retrain elsewhere, and does not say on what device"
        theirs = dict(terms) | {"workers": retrain.workers}
        if trial.training.compute != trial.unlearning.compute:
            theirs["compute"] = trial.training.compute
    if told(theirs) != told(terms):
        return f"the retrain ran on {told(theirs)}, and this trial on {told(terms)}"
    return None


def told(terms: Mapping[str, Any]) -> str:
    """Terms in words."""
    workers = terms.get("workers") or 1
    named = ", ".join(str(terms.get(name)) for name in ("device", "compute", "execution"))
    return named + (f", {workers} workers" if workers > 1 else "")
