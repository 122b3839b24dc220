"""Run one trial: an ordinary function from a trial to its outcome. Tune and Train are two ways to call it."""

from __future__ import annotations

import json
import time
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mubench_ray.errors import Diverged, MubenchError, ends_process
from mubench_ray.methods import METHODS
from mubench_ray.metrics import METRICS
from mubench_ray.metrics.base import metric_versions
from mubench_ray.provenance import provenance
from mubench_ray.results.storage import StorageLost
from mubench_ray.results.store import Outcome
from mubench_ray.training.distributed import WorkerLost, World
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.curve import Curve
from mubench_ray.trials.observation import evaluation_sets, examples_table, measure
from mubench_ray.trials.probes import probe
from mubench_ray.trials.transfer import transfer_column
from mubench_ray.trials.unlearning import prepare, unlearn


def run_trial(
    trial: Trial,
    artifacts: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    concurrency: int = 1,
    keep: bool = False,
    world: World | None = None,
) -> Outcome:
    """Unlearn and evaluate one trial. Never raises for what goes wrong inside: the row says ``diverged``, ``out_of_memory`` or ``failed``.

    ``keep`` saves the unlearned weights beside the artifacts, for the next step of a sequence. ``world``: the processes that run it together; the outcome
    of rank 0 is the trial's. Raises WorkerLost when one of them dies, StorageLost when artifacts cannot be kept.
    """
    world = world or World()
    started = datetime.now(UTC)
    clock = time.perf_counter()
    row = planned_row(trial) | {"device": device_name(device), "concurrency": concurrency, "started_at": started}
    row["workers"] = world.size
    outcome = Outcome(row)
    try:
        _unlearn(trial, artifacts, data_dir, device, concurrency, outcome, keep, world)
    except (WorkerLost, StorageLost):
        raise
    except Diverged as error:
        row |= {"status": "diverged", "error": str(error)}
    except (MemoryError, torch.OutOfMemoryError) as error:
        row |= {"status": "out_of_memory", "error": one_line(error)}
        outcome.traceback = traceback.format_exc()
    except MubenchError as error:
        row |= {"status": "failed", "error": one_line(error, name=False)}
        outcome.traceback = traceback.format_exc()
    except BaseException as error:  # any fault of a method is this row's truth: sys.exit() and a panic in Rust, too
        if isinstance(error, KeyboardInterrupt) or ends_process(error):
            raise
        row |= {"status": "failed", "error": one_line(error)}
        outcome.traceback = traceback.format_exc()
    row |= {"finished_at": datetime.now(UTC), "wall_seconds": time.perf_counter() - clock}
    return outcome


def _unlearn(
    trial: Trial,
    artifacts: ArtifactStore,
    data_dir: str | Path | None,
    device: str,
    concurrency: int,
    outcome: Outcome,
    keep: bool,
    world: World,
) -> None:
    row = outcome.row
    prepared = prepare(trial, artifacts, data_dir, device, concurrency, world)
    ctx, forget, retrain, meter = prepared.ctx, prepared.forget, prepared.retrain, prepared.ctx.meter
    row |= {
        "forget_size": len(forget.forget),
        "retain_size": len(forget.retain),
        "forget_sha256": forget.manifest["sha256"],
    }
    row |= {"retrain_flos": retrain and retrain.flos, "retrain_seconds": retrain and retrain.seconds}

    sets = evaluation_sets(prepared.splits, forget)
    curve = Curve(trial, sets, prepared.ctx.data.task.sampled, prepared.reference_flos, outcome.curve)
    # In pieces a network answers only to all at once.
    observer = curve if world.rank == 0 or world.sharded else lambda ctx: None
    truncated = unlearn(ctx, prepared.method, trial, observer, artifacts.checkpoint(trial.id))
    if world.rank:
        row["status"] = "truncated" if truncated else "ok"
        return
    ctx.world = ctx.meter.world = World()  # what is looked at from here on is looked at by rank 0 alone
    curve.point(ctx)
    row |= {"flos": meter.flos, "seconds": meter.seconds}

    probes = partial(probe, trial, prepared, artifacts, data_dir)
    observed, values = measure(ctx, trial, sets, retrain, prepared.transfer, probes)
    row |= values | {"transfer": transfer_column(values, metric_names())}
    outcome.examples = examples_table(trial, observed)
    if keep:
        artifacts.keep(trial.id, ctx.network)
    row["status"] = "truncated" if truncated else "ok"


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
        "status": "failed",
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
