"""Run one trial: an ordinary function from a trial to its outcome. Tune and Train are two ways to call it."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.metrics import METRICS
from mubench_ray.results.storage import StorageLost
from mubench_ray.results.store import Outcome
from mubench_ray.status import NO_STEP, UNCOMPARED, Status
from mubench_ray.training.distributed import WorkerLost, World
from mubench_ray.training.meter import Meter
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.curve import Curve
from mubench_ray.trials.observing import (
    Wanted,
    examples_table,
    failed_record,
    measure,
    observe,
    possible,
    seen_of,
    set_sizes,
    transfer_column,
)
from mubench_ray.trials.rows import begun_row, fault_of
from mubench_ray.trials.unlearning import Prepared, kept_network, prepare, unlearn

#: Which unlearned networks are kept beside the artifacts: none, of those trained with LoRA their adapters, or all, whole.
Keep = Literal["none", "adapters", "all"]


def run_trial(
    trial: Trial,
    artifacts: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    concurrency: int = 1,
    keep: Keep = "none",
    world: World | None = None,
    wanted: Iterable[Wanted] = (),
) -> Outcome:
    """Unlearn and evaluate one trial. Never raises for what goes wrong inside: the row says ``diverged``, ``out_of_memory`` or ``failed``.

    ``keep`` says whether f_U is saved beside the artifacts, for a step of a sequence that goes on from it or for observations that are made later; ``wanted``
    are those that are made now. ``world``: the processes that run it together; the outcome of rank 0 is the trial's. Raises WorkerLost when one of them
    dies, StorageLost when artifacts cannot be kept.
    """
    world = world or World()
    clock = time.perf_counter()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    outcome = Outcome(row := begun_row(trial, device, concurrency, world.size))
    try:
        _unlearn(trial, artifacts, data_dir, device, concurrency, outcome, keep, world, wanted)
    except (WorkerLost, StorageLost):
        raise
    except BaseException as error:  # noqa: BLE001 - fault_of raises what ends the process; all else is this row's truth, a panic in Rust, too
        row["status"], row["error"] = fault_of(error)
        if not isinstance(error, Diverged):  # which is an answer
            outcome.traceback = traceback.format_exc()
    row |= {"finished_at": datetime.now(UTC), "wall_seconds": time.perf_counter() - clock}
    if device.startswith("cuda"):
        row["peak_memory"] = torch.cuda.max_memory_allocated(device)
    return outcome


def _unlearn(
    trial: Trial,
    artifacts: ArtifactStore,
    data_dir: str | Path | None,
    device: str,
    concurrency: int,
    outcome: Outcome,
    keep: Keep,
    world: World,
    wanted: Iterable[Wanted],
) -> None:
    row = outcome.row
    prepared = prepare(trial, artifacts, data_dir, device, concurrency, world)
    ctx, forget, retrain, meter = prepared.ctx, prepared.forget, prepared.retrain, prepared.ctx.meter
    row |= {
        "forget_size": len(forget.forget),
        "retain_size": len(forget.retain),
        "forget_sha256": forget.manifest["sha256"],
        "retrain_flos": retrain and retrain.flos,
        "retrain_seconds": prepared.retrain_seconds,
    }
    if prepared.unlike is not None:
        row["marks"] = json.dumps([f"{UNCOMPARED}: {prepared.unlike}"])
    if prepared.method.start == "retrain" and retrain is not None and retrain.terms is not None:
        row |= retrain.terms  # its seconds are those of its training

    seen = seen_of(prepared, trial, artifacts, data_dir)
    curve = Curve(trial, seen.sets, ctx.task.sampled, prepared.reference_flos, outcome.curve)
    # In pieces a network answers only to all at once.
    observer = curve if world.rank == 0 or world.sharded else lambda ctx: None
    try:
        truncated = unlearn(ctx, prepared.method, trial, observer, artifacts.progress(trial.id))
    finally:
        row |= (spent := costs(meter, prepared))  # where it fails, too: what it had spent by then
    if world.rank:
        row["status"] = Status.TRUNCATED if truncated else Status.OK
        return
    ctx.world = ctx.meter.world = World()  # what is looked at from here on is looked at by rank 0 alone
    if meter.examples and meter.seconds > 0:
        row["examples_per_second"] = meter.examples / meter.seconds
    measured = None
    if ctx.stepped:
        curve.point(ctx)
        measured = measure(seen, spent | certified(prepared))
        row |= measured.values | {"transfer": transfer_column(seen, measured.arrays)}
        row["set_sizes"] = set_sizes(measured.arrays)
        if measured.marks:
            row["marks"] = json.dumps([*json.loads(row.get("marks") or "[]"), *measured.marks])
        outcome.examples = examples_table(trial, measured.arrays)
    else:
        row["error"] = NO_STEP
        outcome.curve.clear()  # what the network scored was f_O
    if keep == "all":
        artifacts.keep(trial.id, ctx.network)
    elif keep == "adapters" and ctx.adapters is not None:
        artifacts.keep_adapters(trial.id, ctx.adapters)
    row["status"] = Status.TRUNCATED if truncated else Status.OK
    if measured is not None:
        outcome.observations = observe(seen, possible(trial, wanted), measured.arrays)


def costs(meter: Meter, prepared: Prepared) -> dict[str, float | None]:
    """What a trial and its retrain spent, which metrics may read; no seconds of a retrain that are not to be compared."""
    return {
        "seconds": meter.seconds,
        "flos": meter.flos,
        "retrain_seconds": prepared.retrain_seconds,
        "retrain_flos": prepared.retrain and prepared.retrain.flos,
    }


def certified(prepared: Prepared) -> dict[str, float | None]:
    """What the method guarantees of the f_U that it has just made."""
    epsilon, delta = prepared.method.certificate(prepared.ctx) or (None, None)
    return {"certificate_epsilon": epsilon, "certificate_delta": delta}


#: How far a mean loss or score of an f_U that is there once more may lie from the row's (relative, or absolute below 1).
SAME = 1e-3


def observe_again(
    trial: Trial,
    wanted: Iterable[Wanted],
    row: Mapping[str, Any],
    artifacts: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    concurrency: int = 1,
    world: World | None = None,
) -> list[dict[str, Any]]:
    """Records of observations of a trial that has its ``row``: of f_U as it was kept or, where it was not, unlearned again.

    Never raises for what goes wrong inside, nor records anything of another network than the row's: the records then say ``failed`` and why. Raises as
    ``run_trial`` does. Of several processes those that are not rank 0 return nothing.
    """
    world = world or World()
    wanted = possible(trial, wanted)
    try:
        prepared = prepare(trial, artifacts, data_dir, device, concurrency, world)
        ctx = prepared.ctx
        kept = kept_network(trial, prepared.method, ctx.network, artifacts, world)
        if kept is None:
            unlearn(ctx, prepared.method, trial, lambda ctx: None)
        else:
            ctx.network = kept.to(ctx.device)
        if world.rank:
            return []
        ctx.world = ctx.meter.world = World()
        seen = seen_of(prepared, trial, artifacts, data_dir)
        measured = measure(seen, {name: row.get(name) for name in costs(ctx.meter, prepared)})
        versions = json.loads(row.get("metric_versions") or "{}")
        for name in ("forget_loss", "test_loss", "forget_accuracy", "test_accuracy"):
            theirs, ours = row.get(name), measured.values.get(name)
            if versions.get(name, 1) != METRICS.get(name).version:
                continue  # another number of the same network
            if theirs is not None and ours is not None and not math.isclose(theirs, ours, rel_tol=SAME, abs_tol=SAME):
                how = "was unlearned again" if kept is None else "was kept"
                raise MubenchError(
                    f"the network that {how} is not the one of the row: {name} is {ours:.6g}, and {theirs:.6g} in the row (made on {row.get('device')})."
                )
    except (WorkerLost, StorageLost):
        raise
    except BaseException as error:  # noqa: BLE001 - fault_of raises what ends the process; as in a row: the reason of every record
        status, reason = fault_of(error)
        return [failed_record(trial, each, reason, status) for each in wanted]
    return observe(seen, wanted, measured.arrays)


def metric_names() -> list[str]:
    """The metric columns of the trials table."""
    return METRICS.names()


def prepare_network_process(threads: int = 1) -> None:
    """Make this process compute the same numbers as any other: one thread a trial, deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
