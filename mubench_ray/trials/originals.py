"""How originals, retrains and scoring networks are trained, and what is looked at of them once they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mubench_ray.forget import ForgetSplit, Scores, halves
from mubench_ray.forget.scored import scoring_networks
from mubench_ray.models.flos import count_flos
from mubench_ray.observations.evaluation_sets import flatten, held_out
from mubench_ray.observations.shifted_sets import shifted_rows
from mubench_ray.randomness import derive
from mubench_ray.tasks import Batch
from mubench_ray.training.checkpoint import Checkpoint
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.distributed import World
from mubench_ray.training.evaluate import eval_mode, evaluate
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.training.recompute import recompute_activations
from mubench_ray.trial import ForgetSet, Recipe, Trial
from mubench_ray.trials.artifacts import Artifact, ArtifactStore
from mubench_ray.trials.data import load_task, split_of, training_data
from mubench_ray.trials.rows import terms_at


def get_artifact(
    recipe: Recipe,
    store: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    world: World | None = None,
) -> Artifact:
    """The trained original or retrain of a recipe: from the store, or trained here and now. Raises Diverged when training does.

    Several processes (``world``) train it together; rank 0 says whether it is there already, and saves it.
    """
    if world is None or world.size == 1:
        return store.find(recipe) or _make(recipe, store, data_dir, device, World())
    if world.on_rank_0(lambda: store.find(recipe) is not None):
        return store.load(recipe)
    return _make(recipe, store, data_dir, device, world)


def scores_for(
    forget: ForgetSet | None,
    store: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    world: World | None = None,
) -> tuple[Scores, ...]:
    """What the scoring networks of a forget set do on every example of D; those that are missing are trained. None for most samplers."""
    made = [get_artifact(recipe, store, data_dir, device, world) for recipe in scoring_networks(forget)]
    return tuple({name.removeprefix("train_"): values for name, values in each.observed.items()} for each in made)


def forget_split(
    made: Trial | Recipe, store: ArtifactStore, data_dir: str | Path | None = None, device: str = "cpu"
) -> ForgetSplit:
    """The forget set of a trial or a retrain; raises ValueError for a recipe that leaves nothing out."""
    if made.forget is None:
        raise ValueError(f"{made.id} is trained on everything: it has no forget set")
    return split_of(made, made.forget, data_dir, scores_for(made.forget, store, data_dir, device))


def _make(recipe: Recipe, store: ArtifactStore, data_dir: str | Path | None, device: str, world: World) -> Artifact:
    exact = None
    if recipe.frozen is not None:
        unrounded = Recipe.model_validate(recipe.model_dump() | {"frozen": None})
        exact = get_artifact(unrounded, store, data_dir, device, world)
    scores = scores_for(recipe.forget, store, data_dir, device, world)
    data, splits, forget = training_data(recipe, data_dir, device, scores)
    extra: dict[str, Any] = {}
    progress: Checkpoint | None = None
    if exact is not None:
        network, meter, extra = rounded(exact, data)
    elif recipe.training is None:
        network, meter = published_network(recipe, data), Meter(device=data.device)
        extra = {"flos_per_sample": flos_of_a_step(network, data)}
    else:
        progress = store.progress(recipe.id)
        network, meter = train(recipe, data, world, progress)

    def observe_and_save() -> None:
        told = dict(extra)
        if recipe.on:
            sets: dict[str, Rows] = {}
        elif forget is not None:
            sets = {"forget": Rows(splits.train, forget.forget), "retain": data.rows("retain")}
            sets |= held_out(splits, forget)
            told |= {"forget_sha256": forget.manifest["sha256"], "forget_size": len(forget.forget)}
        elif recipe.scoring:
            sets = {"train": Rows.all_of(load_task(recipe.task, recipe.subset, data_dir, recipe.validation)[1].train)}
        else:
            sets = shifted_rows(splits)
        observed = flatten({name: evaluate(network, data, rows) for name, rows in sets.items()})
        if recipe.scoring:
            observed["train_seen"] = seen_by(recipe.half, len(observed["train_loss"]))
        terms = {} if recipe.training is None else {"terms": terms_at(recipe.training, data.device, world.size)}
        if exact is not None:
            terms = {"terms": exact.terms}
        store.save(recipe, network, meter, observed, {"workers": world.size, **terms, **told})
        if progress is not None:
            progress.remove()

    world.on_rank_0(observe_and_save)
    return store.load(recipe)


def seen_by(half: int | None, size: int) -> np.ndarray:
    """1.0 for each of ``size`` examples of D that a network of this half (of all of D for None) was trained on, else 0.0."""
    seen = np.ones(size)
    if half is not None:
        seen[halves(size, half)[1].numpy()] = 0.0
    return seen


def published_network(recipe: Recipe, data: UnlearningData) -> nn.Module:
    """The recipe's checkpoint as it is."""
    torch.manual_seed(derive("initialise", recipe.seed))
    return data.model.finished(data.task).to(data.device)


def rounded(exact: Artifact, data: UnlearningData) -> tuple[nn.Module, Meter, dict[str, Any]]:
    """The network of an artifact with its parameters rounded to bfloat16, and what that artifact cost: the rounding costs nothing."""
    network = exact.load_into(data.model.build(data.task)).to(data.device)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.bfloat16())
    meter = Meter(device=data.device)
    meter.load_state_dict({"flos": exact.flos, "seconds": exact.seconds, "examples": 0, "per_example": {}})
    extra = {"workers": exact.workers}
    return network, meter, extra | ({"flos_per_sample": exact.flos_per_sample} if exact.flos_per_sample else {})


def flos_of_a_step(network: nn.Module, data: UnlearningData) -> float:
    """FLOs an example of a step that trains all of the network, counted on the first two of D. No gradient is kept, so that a large network fits."""
    batch = data.batch(data.rows("train"), torch.arange(2))
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in network.parameters() if p.requires_grad]
    with eval_mode(network):
        _, flos = count_flos(lambda: data.task.losses(data.task.outputs(network, batch), batch).mean().backward())
    for hook in hooks:
        hook.remove()
    return flos / len(batch)


def _drop(parameter: nn.Parameter) -> None:
    parameter.grad = None


def train(
    recipe: Recipe, data: UnlearningData, world: World | None = None, progress: Checkpoint | None = None
) -> tuple[nn.Module, Meter]:
    """Train the recipe's network from scratch on all the data that ``data`` holds: D for an original, D_R for a retrain; going on from ``progress``."""
    options = recipe.training
    if options is None:
        raise ValueError(f"{recipe.id} is a checkpoint as it is, and not trained")
    task, model = data.task, data.model
    torch.manual_seed(derive("initialise", recipe.seed))
    network = model.initial(task).to(data.device)
    if options.gradient_checkpointing:
        recompute_activations(network)
    meter = Meter(device=data.device, world=world)
    ctx = Context(task, model, network, data, derive("train", recipe.seed), meter, options.lr)
    name = recipe.on or ("train" if recipe.forget is None else "retain")

    def loss(ctx: Context, batch: Batch) -> torch.Tensor:
        return ctx.loss(batch)

    phase = Phase(
        "train", name, loss, epochs=options.epochs, optimizer=Optimizer(schedule=options.schedule), augment=True
    )
    if meter.world.sharded:
        meter.world.shard(network)
        Loop(ctx, [phase], options).run()
        return meter.world.unshard_into(model.build(task).to(data.device), network), meter
    Loop(ctx, [phase], options, checkpoint=progress).run()
    return network, meter
