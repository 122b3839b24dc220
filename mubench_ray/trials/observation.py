"""What is looked at while and after a trial unlearns: the curve, the evaluation sets, the table of examples. Never on the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mubench_ray.errors import Diverged
from mubench_ray.metrics import compute_all
from mubench_ray.randomness import torch_generator
from mubench_ray.results.schema import EXAMPLES
from mubench_ray.splits import ForgetSplit
from mubench_ray.tasks import Splits
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import Observed, eval_mode, evaluate
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import Artifact
from mubench_ray.trials.originals import flatten, held_out
from mubench_ray.trials.transfer import Transfer

#: Examples of D_R that the examples table keeps.
SAMPLE = 1000


def evaluation_sets(splits: Splits, forget: ForgetSplit) -> dict[str, Rows]:
    """D_F (of a sequence: all that was to be forgotten so far), D_R, D_V, D_Test and, of a shadow model, the half that it never saw."""
    sets = {"forget": Rows(splits.train, forget.forget), "retain": Rows(splits.train, forget.retain)} | held_out(splits)
    return sets if splits.unseen is None else sets | {"unseen": Rows.all_of(splits.unseen)}


def examples_table(trial: Trial, observed: dict[str, Observed]) -> pa.Table:
    """The examples table of a trial; of D_R at most SAMPLE rows."""
    parts = []
    for split, columns in observed.items():
        size = len(columns["loss"])
        if split == "retain" and size > SAMPLE:
            keep = torch.randperm(size, generator=torch_generator("sample", split, size))[:SAMPLE].sort().values.numpy()
            columns, size = {name: values[keep] for name, values in columns.items()}, SAMPLE
        named = {"trial_id": pa.array([trial.id] * size), "split": pa.array([split] * size).dictionary_encode()}
        named |= {name: columns[name] for name in ("index", "label", "loss", "correct", "confidence", "entropy")}
        parts.append(
            pa.table({field.name: pa.array(named[field.name]).cast(field.type) for field in EXAMPLES}, schema=EXAMPLES)
        )
    return pa.concat_tables(parts)


def measure(
    ctx: Context,
    trial: Trial,
    sets: dict[str, Rows],
    retrain: Artifact | None,
    transfer: Transfer | None = None,
    probes: Callable[[], dict[str, Any]] = dict,
) -> tuple[dict[str, Observed], dict[str, float | None]]:
    """What f_U does on every example of every set, and every metric and cost that follows from it; with the means on every shifted set.

    ``probes`` gives what else metrics may read. Without a retrain all that compares with one is None.
    Raises Diverged where a parameter of f_U is not finite.
    """
    if not all(bool(torch.isfinite(p).all()) for p in ctx.network.parameters()):
        raise Diverged("a parameter of the unlearned network is not finite")
    observed = {name: evaluate(ctx.network, ctx.data, rows) for name, rows in sets.items()}
    measured: dict[str, Any] = flatten(observed) | against_teachers(ctx, sets["forget"])
    if retrain is not None:
        measured |= {f"retrain_{name}": values for name, values in retrain.observed.items()}
        measured |= weights_beside_retrain(ctx, retrain)
    measured |= judged(ctx, sets)
    shifted, means = (transfer or Transfer()).measure(ctx.network, ctx.data)
    costs = {
        "seconds": ctx.meter.seconds,
        "flos": ctx.meter.flos,
        "retrain_seconds": retrain and retrain.seconds,
        "retrain_flos": retrain and retrain.flos,
    }
    return observed, means | compute_all(
        measured | probes() | shifted | costs | {"ratio": trial.ratio, "seed": trial.seed}
    ) | costs


def judged(ctx: Context, sets: dict[str, Rows]) -> dict[str, np.ndarray]:
    """Scores of what f_U generates for the first examples of D_F and D_Test, as ``forget_<score>``; examples without a score are left out."""
    found: dict[str, np.ndarray] = {}
    if ctx.task.judged:
        with eval_mode(ctx.network):
            for name in ("forget", "test"):
                columns = sets[name].examples.take(sets[name].positions[: ctx.task.judged])
                columns = {key: column.to(ctx.device) for key, column in columns.items()}
                scores = ctx.task.judge(ctx.model, ctx.network, columns, ctx.device)
                found |= {f"{name}_{key}": values[~np.isnan(values)] for key, values in scores.items()}
    return found


@torch.no_grad()
def against_teachers(ctx: Context, rows: Rows, batch_size: int = 512) -> dict[str, np.ndarray]:
    """Log-probabilities (N, K) of f_U and of the incompetent teacher on D_F, for metrics that compare distributions (ZRF).

    Only for classification: a sequence model's would be tokens x vocabulary.
    """
    if ctx.task.kind != "classification":
        return {}
    parts: dict[str, list[np.ndarray]] = {"forget_log_probs": [], "incompetent_forget_log_probs": []}
    with eval_mode(ctx.network):
        for picked in torch.arange(len(rows)).split(batch_size):
            batch = ctx.data.batch(rows, picked)
            parts["forget_log_probs"].append(ctx.log_probs(batch).double().cpu().numpy())
            parts["incompetent_forget_log_probs"].append(ctx.log_probs(batch, ctx.incompetent).double().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def weights_beside_retrain(ctx: Context, retrain: Artifact) -> dict[str, dict[str, np.ndarray]]:
    """The weights of f_U and of the retrain, by name, for distances in parameter space; nothing where f_U is another architecture (SISA's ensemble)."""
    reference = retrain.load_into(ctx.model.build(ctx.task))
    if ctx.network.state_dict().keys() != reference.state_dict().keys():
        return {}
    return {
        name: {key: p.detach().float().cpu().numpy() for key, p in network.named_parameters()}
        for name, network in (("state", ctx.network), ("retrain_state", reference))
    }
