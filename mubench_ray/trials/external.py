"""A network that was unlearned elsewhere, held against the f_O and f_R of here: all that a trial is looked at for, and no cost."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.forget import SAMPLERS, ForgetSplit
from mubench_ray.models import Model
from mubench_ray.models.state_dict import misfits, read_weights
from mubench_ray.results.storage import StorageLost
from mubench_ray.results.store import Outcome
from mubench_ray.status import Status
from mubench_ray.tasks import Task
from mubench_ray.trial import EXTERNAL, ForgetSet, Trial, own_name
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_half, split_of
from mubench_ray.trials.observing import (
    Wanted,
    examples_table,
    measure,
    observe,
    possible,
    seen_of,
    set_sizes,
    transfer_column,
)
from mubench_ray.trials.rows import begun_row, fault_of
from mubench_ray.trials.unlearning import prepare
from mubench_ray.trials.versions import versioned, weights_hash

#: What stands beside the numbers of such a row.
MARK = "unlearned elsewhere: its cost, its budget and how it was tuned are not known"


def external_trial(like: Trial, forget: ForgetSet, source: str | Path) -> Trial:
    """The trial of a network in a file or folder beside one of the suite's: known by the hash of its weights and by its forget set. Raises MubenchError where
    there is no such file."""
    found = weights_hash(str(source))
    if found is None:
        raise MubenchError(f"{source}: there is no such file or folder of weights.")
    fields = like.model_dump(exclude_defaults=True)
    apart = ("unlearning", "budget", "tuned", "after", "sequence", "versions", "lists")
    kept = {name: value for name, value in fields.items() if name not in apart}
    given = {
        "method": EXTERNAL,
        "hyperparameters": {"weights": found},
        "lr": None,
        "forget": forget.model_dump(),
        "seed": like.training_seed,
    }
    return versioned(Trial.model_validate(kept | given))


def listed_set(
    path: str | Path, like: Trial, data_dir: str | Path | None, known: Iterable[ForgetSet] = ()
) -> tuple[ForgetSet, ForgetSplit]:
    """The forget set that a list of ids, or a mask, names: that of the ``known`` ones which is the same examples, or one of its own. Raises MubenchError
    where no example of D is listed, or all are."""
    train = load_half(like.task, like.subset, data_dir, like.half)[1].train
    numbers = SAMPLERS.get("from_file").configure({"path": str(path)})
    # At most all of D: what is listed, wherever it stands.
    order = numbers.order(train, _everything()).sort().values
    if not 0 < len(order) < len(train):
        raise MubenchError(
            f"{path}: names {len(order)} of the {len(train)} training examples of {own_name(like.task)}: a forget set is some of them."
        )
    for each in known:
        if each.scored_by is None and torch.equal(split_of(like, each, data_dir).forget, order):
            return each, split_of(like, each, data_dir)
    ratio = 100 * len(order) / len(train)
    ratio = next(
        (
            short
            for digits in range(1, 12)
            if round(len(train) * (short := float(f"{ratio:.{digits}g}")) / 100) == len(order)
        ),
        ratio,
    )
    forget = ForgetSet(sampler="from_file", ratio=ratio, options=numbers.prepared(ratio).options)
    return forget, split_of(like, forget, data_dir)


def _everything() -> Any:
    from mubench_ray.forget.base import Draw
    from mubench_ray.randomness import numpy_generator

    return Draw(100.0, numpy_generator("external"))


def external_network(source: str | Path, model: Model, task: Task) -> nn.Module:
    """The network in a file of weights, or in a folder with a config; raises MubenchError naming what does not fit."""
    if (Path(source) / "config.json").is_file():
        return model.pretrained(str(source)).finished(task)
    network = model.build(task)
    weights = read_weights(source, set(network.state_dict()))
    if faults := misfits(network, weights.tensors):
        raise MubenchError(
            f"{source}: is no network of model {own_name(model.name)} on {task.name}: it {'; it '.join(faults)}."
        )
    network.load_state_dict(weights.tensors, strict=False)
    return network


def evaluate_external(
    trial: Trial,
    source: str | Path,
    artifacts: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    wanted: Iterable[Wanted] = (),
) -> Outcome:
    """The row of ``external_trial``; f_O and f_R are made where they are missing, and f_U is kept beside them, so that it can be looked at for more later.

    What goes wrong is the row's reason, as in any trial. Raises StorageLost when artifacts cannot be kept.
    """
    clock = time.perf_counter()
    outcome = Outcome(row := begun_row(trial, device, 1, 1))
    try:
        prepared = prepare(trial, artifacts, data_dir, device)
        ctx, forget, retrain = prepared.ctx, prepared.forget, prepared.retrain
        ctx.keep_original()
        ctx.network = external_network(source, ctx.model, ctx.task).to(ctx.device)
        row |= {
            "forget_size": len(forget.forget),
            "retain_size": len(forget.retain),
            "forget_sha256": forget.manifest["sha256"],
        }
        row |= {"retrain_flos": retrain and retrain.flos, "marks": json.dumps([MARK])}
        seen = seen_of(prepared, trial, artifacts, data_dir)
        measured = measure(seen, dict.fromkeys(("seconds", "flos", "retrain_seconds", "retrain_flos")))
        row |= measured.values | {
            "transfer": transfer_column(seen, measured.arrays),
            "set_sizes": set_sizes(measured.arrays),
        }
        row["marks"] = json.dumps([MARK, *measured.marks])
        outcome.examples = examples_table(trial, measured.arrays)
        artifacts.keep(trial.id, ctx.network)
        row["status"] = Status.OK
        outcome.observations = observe(seen, possible(trial, wanted), measured.arrays)
    except StorageLost:
        raise
    except BaseException as error:  # noqa: BLE001 - fault_of raises what ends the process; all else is this row's truth
        row["status"], row["error"] = fault_of(error)
        outcome.traceback = traceback.format_exc()
    row |= {"finished_at": datetime.now(UTC), "wall_seconds": time.perf_counter() - clock}
    return outcome
