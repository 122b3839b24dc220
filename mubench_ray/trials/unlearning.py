"""From a trial to its unlearned network: where it starts, what it may spend, the method's phases, and the steps before it in a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.forget import ForgetSplit
from mubench_ray.methods import METHODS, Method
from mubench_ray.randomness import derive
from mubench_ray.tasks import Splits
from mubench_ray.training.checkpoint import Checkpoint
from mubench_ray.training.context import Context
from mubench_ray.training.distributed import World
from mubench_ray.training.loop import Loop
from mubench_ray.training.lora import add_lora, merge_lora, trained_by_lora
from mubench_ray.training.meter import Meter
from mubench_ray.training.phase import Phase
from mubench_ray.training.recompute import recompute_activations
from mubench_ray.training.superloss import SuperLoss
from mubench_ray.trial import Trial, Unlearning, own_name
from mubench_ray.trials.artifacts import Artifact, ArtifactStore
from mubench_ray.trials.data import unlearning_data
from mubench_ray.trials.originals import get_artifact, scores_for
from mubench_ray.trials.rows import terms_of, unlike_terms
from mubench_ray.trials.versions import step_before


@dataclass
class Prepared:
    """A trial that is ready to unlearn. Without a retrain its budget is the task's: ``reference_flos`` is what the cap is a share of."""

    method: Method
    ctx: Context
    splits: Splits
    forget: ForgetSplit
    retrain: Artifact | None
    reference_flos: float
    #: Of the retrain, where the trial's own may be compared with them; else ``unlike`` says why not.
    retrain_seconds: float | None
    unlike: str | None


def prepare(
    trial: Trial,
    artifacts: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    concurrency: int = 1,
    world: World | None = None,
) -> Prepared:
    """Data, artifacts, the network to start from and the meter of a trial; makes the artifacts that are missing. ``world``: the processes that share it."""
    world = world or World()
    method = METHODS.get(trial.method).configure(trial.hyperparameters)
    scores = scores_for(trial.forget, artifacts, data_dir, device, world)
    data, splits, forget = unlearning_data(trial, data_dir, device, scores)
    retrain = get_artifact(trial.retrain, artifacts, data_dir, device, world) if trial.retrain else None
    starts = method.start != "retrain" and not trial.after
    original = (
        get_artifact(trial.original, artifacts, data_dir, device, world) if starts or trial.retrain is None else None
    )
    reference_flos = retrain.flos if retrain else declared_flos(trial, len(forget.retain), original)
    terms = terms_of(trial, device, world.size)
    # A retrain that is looked at as a trial is its own measure.
    unlike = None if retrain is None or method.start == "retrain" else unlike_terms(retrain, trial, terms)
    retrain_seconds = retrain.seconds if retrain and unlike is None else None
    meter = budgeted_meter(trial, reference_flos, retrain_seconds, device, concurrency, world)
    torch.manual_seed(trial.seed)
    network = data.model.build(data.task)
    if method.start == "retrain":
        if retrain is None:
            raise MubenchError(f"{trial.method} is a retrain, and {own_name(trial.task)} from a checkpoint has none.")
        retrain.load_into(network)
        meter.load_state_dict({"flos": retrain.flos, "seconds": retrain.seconds, "examples": 0, "per_example": {}})
    elif trial.after:
        network = previous_network(trial, network, artifacts, data_dir, device, concurrency, world)
    elif original is not None:
        original.load_into(network)
    ctx = Context(data.task, data.model, network.to(device), data, trial.seed, meter, trial.lr)
    ctx.training = trial.training
    return Prepared(method, ctx, splits, forget, retrain, reference_flos, retrain_seconds, unlike)


def unlearn(ctx: Context, method: Method, trial: Trial, observer: Any, progress: Checkpoint | None = None) -> bool:
    """Run a method's phases and its finish under the context's meter; True when the budget cut them short. ``ctx.network`` is f_U afterwards,
    ``ctx.stepped`` whether it is the method's own: False where the budget was spent before anything was done to it.

    ``progress`` is where it saves itself now and then, and goes on from.
    """
    options = trial.unlearning
    if reason := method.refusal_for_network(ctx.network) or method.refusal_for_options(options):
        raise MubenchError(reason)
    ctx.keep_original()
    if options.superloss is not None:
        ctx.curriculum = SuperLoss(options.superloss, options.superloss_tau)
    if options.lora is not None:
        torch.manual_seed(derive("lora", trial.seed))
        ctx.network = add_lora(ctx.network, options.lora).to(ctx.device)
    if options.gradient_checkpointing:
        recompute_activations(ctx.network)
    phases = method.phases(ctx)
    if ctx.world.sharded:
        refuse_pieces(method, phases, options)
        ctx.world.shard(ctx.network)
        ctx.world.shard(ctx.original)
        progress = None
    finish = None if type(method).finish is Method.finish else method.finish
    truncated = Loop(ctx, phases, options, observer, progress, finish).run()
    if ctx.world.sharded:
        ctx.network = ctx.world.unshard_into(ctx.model.build(ctx.task).to(ctx.device), ctx.network)
    if options.lora is not None:
        ctx.adapters = trained_by_lora(ctx.network, ctx.original)
        ctx.network = merge_lora(ctx.network)
    # Steps may have been those of a helper; and a method without phases does all it does at its end.
    ctx.stepped = not truncated or ((ctx.stepped or not phases) and moved(ctx))
    return truncated


def moved(ctx: Context) -> bool:
    """Whether any parameter of f_U is not f_O's; where f_O lies in pieces it is taken for granted."""
    if ctx.world.sharded:
        return True
    before, after = (dict(network.named_parameters()) for network in (ctx.original, ctx.network))
    return before.keys() != after.keys() or any(not torch.equal(before[name], after[name]) for name in before)


def kept_network(
    trial: Trial, method: Method, network: nn.Module, artifacts: ArtifactStore, world: World
) -> nn.Module | None:
    """f_U of a trial as it was kept, from the ``network`` that it started from; None where it was not kept."""
    if (whole := kept_whole(trial, method, network, artifacts, world)) is not None:
        return whole
    if trial.unlearning.lora is not None and world.on_rank_0(lambda: artifacts.has_kept_adapters(trial.id)):
        network = add_lora(network, trial.unlearning.lora)
        network.load_state_dict(artifacts.kept_adapters(trial.id), strict=False)
        return merge_lora(network)
    return None


def kept_whole(
    trial: Trial, method: Method, network: nn.Module, artifacts: ArtifactStore, world: World
) -> nn.Module | None:
    """f_U of a trial in a ``network`` of its architecture; None where it was not kept whole."""
    if not world.on_rank_0(lambda: artifacts.has_kept(trial.id)):
        return None
    network = method.result_of(network)
    artifacts.load_kept(trial.id, network)
    return network


def declared_flos(trial: Trial, retained: int, original: Artifact | None) -> float:
    """FLOs of the task's own budget: its passes over D_R at what a step that trains the whole network costs. Raises ValueError where the trial has none."""
    of_a_step = original.flos_per_sample if original else None
    if trial.budget_epochs is None or of_a_step is None:
        raise ValueError(f"trial {trial.id} declares no budget of its own: what its retrain spent is its budget")
    return trial.budget_epochs * retained * of_a_step


def refuse_pieces(method: Method, phases: list[Phase], options: Unlearning) -> None:
    """Raise MubenchError where a method handles the weights itself, which no process has whole under FSDP."""
    hooks = any(phase.before or phase.after or phase.update or phase.parameters for phase in phases)
    if hooks or method.reads_weights or type(method).finish is not Method.finish or options.lora is not None:
        raise MubenchError(
            f"sharding: fsdp: {method.name} handles weights or gradients itself (or LoRA does), and under FSDP no worker has them whole. "
            "Use sharding: replicated."
        )


def budgeted_meter(
    trial: Trial,
    reference_flos: float,
    retrain_seconds: float | None,
    device: str,
    concurrency: int,
    world: World,
) -> Meter:
    """The meter with the trial's caps: shares of what its retrain spent, or of the task's declared budget, which has no seconds. ``retrain_seconds`` is None
    where those of the retrain were spent on other terms: they cap nothing. Seconds are compared of their own accord only where the trial is alone on an
    accelerator."""
    flos, seconds = trial.budget.flos, trial.budget.seconds
    if seconds == "auto":
        seconds = 1.0 if device.startswith("cuda") and concurrency == 1 else None
    return Meter(
        cap_flos=None if flos is None else flos * reference_flos,
        cap_seconds=None if seconds is None or retrain_seconds is None else seconds * retrain_seconds,
        device=device,
        world=world,
    )


def previous_network(
    trial: Trial,
    network: nn.Module,
    artifacts: ArtifactStore,
    data_dir: str | Path | None,
    device: str,
    concurrency: int,
    world: World,
) -> nn.Module:
    """f_U of the step before in a sequence: as that step left it, or unlearned once more where its weights are gone."""
    before = step_before(trial)
    method = METHODS.get(before.method).configure(before.hyperparameters)
    if (kept := kept_whole(before, method, network, artifacts, world)) is not None:
        return kept
    prepared = prepare(before, artifacts, data_dir, device, concurrency, world)
    unlearn(prepared.ctx, prepared.method, before, lambda ctx: None)
    return prepared.ctx.network
