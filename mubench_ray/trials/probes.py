"""Probes: what f_U reveals when something is trained after it. Off the clock, and only where a suite asks for them.

Relearning fine-tunes copies of f_U and of f_R on D_R alone and watches D_F (Golatkar et al. 2020, arXiv 1911.04933). The knowledge gap
compares f_U with a model of D_F alone, and f_O with one of D_V, which it never saw (Wang et al. 2023, arXiv 2305.06535).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.randomness import derive
from mubench_ray.tasks import Batch
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import eval_mode, evaluate
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.trial import Relearning, Trial, Unlearning
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.unlearning import Prepared


def probe(
    trial: Trial, prepared: Prepared, artifacts: ArtifactStore, data_dir: str | Path | None = None
) -> dict[str, Any]:
    """The arrays that the metrics of the trial's probes read; empty where it has none."""
    found: dict[str, Any] = {}
    if trial.probes.relearning:
        found |= relearn(trial, prepared, trial.probes.relearning)
    if trial.probes.knowledge_gap:
        found |= knowledge(trial, prepared, artifacts, data_dir)
    return found


def relearn(trial: Trial, prepared: Prepared, options: Relearning) -> dict[str, np.ndarray]:
    """``relearn_steps`` (P,) and accuracy on D_F (P,) of f_U and of f_R at them, step 0 first, under the same fine-tuning on D_R."""
    if prepared.retrain is None:
        raise MubenchError(f"probes.relearning compares with a retrain, and task {trial.task} has none.")
    ctx = prepared.ctx
    retrain = prepared.retrain.load_into(ctx.model.build(ctx.task)).to(ctx.device)
    rows = Rows(prepared.splits.train, prepared.forget.forget)
    ours = returning(trial, ctx, copy.deepcopy(ctx.network), rows, options)
    return {
        "relearn_steps": np.arange(len(ours)) * float(options.every),
        "relearn_forget_accuracy": ours,
        "retrain_relearn_forget_accuracy": returning(trial, ctx, retrain, rows, options),
    }


def returning(trial: Trial, ctx: Context, network: nn.Module, rows: Rows, options: Relearning) -> np.ndarray:
    """Accuracy on D_F before, and after every ``every``-th step of, fine-tuning ``network`` on D_R; the network is changed."""
    network.requires_grad_(True)
    accuracy: list[float] = []
    taken = -1  # the first call comes before the first step

    def look(other: Context) -> None:
        nonlocal taken
        taken += 1
        if taken % options.every == 0:
            accuracy.append(float(evaluate(network, ctx.data, rows)["correct"].mean()))

    def loss(other: Context, batch: Batch) -> Tensor:
        return other.loss(batch)

    seed = derive("relearn", trial.seed)
    lr = options.lr or trial.training.lr
    other = Context(ctx.task, ctx.model, network, ctx.data, seed, Meter(device=ctx.device), lr)
    kept = trial.training.model_dump(
        include={"optimizer", "batch_size", "weight_decay", "momentum", "clip", "precision"}
    )
    epochs = options.steps / ctx.data.steps("retain", kept["batch_size"], 1)
    phase = Phase("relearn", "retain", loss, epochs=epochs, optimizer=Optimizer(schedule="constant"))
    Loop(other, [phase], Unlearning(**kept), look).run()
    return np.array(accuracy[: options.steps // options.every + 1])


def knowledge(
    trial: Trial, prepared: Prepared, artifacts: ArtifactStore, data_dir: str | Path | None
) -> dict[str, np.ndarray]:
    """Log-probabilities (N, K) of the model of D_F alone on D_F, and on D_V of f_O and of the model of D_V alone."""
    ctx = prepared.ctx
    if ctx.task.kind != "classification":
        raise MubenchError(f"probes.knowledge_gap compares class probabilities; task {trial.task} is {ctx.task.kind}.")
    forget = Rows(prepared.splits.train, prepared.forget.forget)
    extra = Rows.all_of(prepared.splits.validation)
    found = {}
    for name, recipe, rows in (
        ("forget_only_forget", trial.trained_on("forget"), forget),
        ("extra_only_extra", trial.trained_on("validation"), extra),
        ("original_extra", trial.original, extra),
    ):
        network = get_artifact(recipe, artifacts, data_dir, ctx.device).load_into(ctx.model.build(ctx.task))
        found[f"{name}_log_probs"] = log_probs(ctx, network.to(ctx.device), rows)
    return found


@torch.no_grad()
def log_probs(ctx: Context, network: nn.Module, rows: Rows, batch_size: int = 512) -> np.ndarray:
    """Log-probabilities of a network on all rows, (N, K)."""
    parts = []
    with eval_mode(network):
        for picked in torch.arange(len(rows)).split(batch_size):
            batch = ctx.data.batch(rows, picked)
            parts.append(ctx.task.log_probs(ctx.task.outputs(network, batch), batch).double().cpu().numpy())
    return np.concatenate(parts)
