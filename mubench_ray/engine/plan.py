"""The plan: a suite resolved into originals, retrains and trials, before anything runs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import torch
from pydantic import ValidationError
from torch import nn

from mubench_ray.errors import SuiteError
from mubench_ray.methods import METHODS, Method
from mubench_ray.models import MODELS
from mubench_ray.splits import list_file
from mubench_ray.suite import ModelEntry, Suite, TaskEntry
from mubench_ray.tasks import TASKS
from mubench_ray.trial import ForgetSet, Recipe, Training, Trial, digest


@dataclass(frozen=True)
class LeftOut:
    """A part of the grid that cannot apply, and why."""

    what: str
    trials: int
    reason: str


@dataclass
class Plan:
    """Recipes of the originals and retrains by id, the trials by id, and what was left out."""

    suite: Suite
    recipes: dict[str, Recipe] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def needs(self, trial: Trial) -> tuple[str, ...]:
        """Ids of the artifacts, and of the step before in a sequence, that a trial waits for."""
        if METHODS.get(trial.method).start == "retrain":
            return (trial.retrain.id,)
        return (trial.previous.id if trial.after else trial.original.id, trial.retrain.id)

    @property
    def continued(self) -> set[str]:
        """Ids of the trials that another one goes on from."""
        return {trial.previous.id for trial in self.trials.values() if trial.after}

    @property
    def originals(self) -> list[Recipe]:
        """Recipes of the originals."""
        return [recipe for recipe in self.recipes.values() if recipe.kind == "original"]

    @property
    def retrains(self) -> list[Recipe]:
        """Recipes of the retrains."""
        return [recipe for recipe in self.recipes.values() if recipe.kind == "retrain"]


def make_plan(suite: Suite) -> Plan:
    """Resolve a suite; raises SuiteError when its training options do not validate or nothing at all can apply."""
    plan = Plan(suite)
    forgets = [forget_set(suite, ratio, seed) for ratio in suite.ratios for seed in suite.forget_seeds]
    for task, model in [(entry, model) for entry in suite.tasks for model in suite.models_of(entry)]:
        training = resolve_training(suite, task, model)
        lr_count = sum(1 if not METHODS.get(m.name).uses_lr else len(m.lrs or suite.lrs) for m in suite.methods)
        cells = len(forgets) * len(suite.seeds) * len(suite.training_seeds or [0])
        if reason := MODELS.get(model.name).refusal(TASKS.get(task.name)):
            plan.left_out.append(LeftOut(f"{task.name} x {model.name}", cells * lr_count, reason))
            continue
        for entry in suite.methods:
            method = entry.configured()
            lrs = (entry.lrs or suite.lrs) if method.uses_lr else [None]
            reason = method.refusal(TASKS.get(task.name)) or refused_by_network(type(method), task.name, model.name)
            if reason:
                plan.left_out.append(LeftOut(f"{task.name} x {model.name} x {entry.name}", cells * len(lrs), reason))
                continue
            common = {
                "task": task.name,
                "subset": task.subset,
                "model": model.name,
                "pretrained": model.checkpoint,
                "method": entry.name,
                "hyperparameters": method.hyperparameters(),
                "training": training,
                "unlearning": suite.unlearning,
                "budget": suite.budget,
            }
            for forget, (seed, training_seed), lr in product(forgets, seed_pairs(suite), lrs):
                after = steps_before(suite, forget.ratio) if method.start != "retrain" else ()
                trial = Trial(**common, forget=forget, seed=seed, training_seed=training_seed, lr=lr, after=after)
                plan.trials[trial.id] = trial
    recipe_of = {}
    for trial in plan.trials.values():
        key = (
            trial.task,
            trial.subset,
            trial.model,
            trial.pretrained,
            digest(trial.training.model_dump()),
            trial.training_seed,
        )
        if key not in recipe_of:
            recipe_of[key] = trial.original
            plan.recipes[trial.original.id] = trial.original
        retrain_key = (*key, trial.forget.sampler, trial.forget.ratio, trial.forget.seed)
        if retrain_key not in recipe_of:
            recipe_of[retrain_key] = trial.retrain
            plan.recipes[trial.retrain.id] = trial.retrain
    if not plan.trials:
        reasons = "; ".join(f"{part.what}: {part.reason}" for part in plan.left_out)
        raise SuiteError(f"{suite.name}: no cell of the suite can apply: {reasons}.")
    return plan


@functools.lru_cache(maxsize=1024)
def refused_by_network(method: type[Method], task: str, model: str) -> str | None:
    """Why a method cannot work on a model's network (CT without convolutions, say), or None; the network is built on the meta device."""
    if method.refusal_for_network.__func__ is Method.refusal_for_network.__func__:
        return None
    return method.refusal_for_network(meta_network(task, model))


@functools.lru_cache(maxsize=64)
def meta_network(task: str, model: str) -> nn.Module:
    """A model's network for a task, without memory."""
    with torch.device("meta"):
        return MODELS.get(model).build(TASKS.get(task)())


def seed_pairs(suite: Suite) -> Iterator[tuple[int, int]]:
    """(seed, training seed): each seed trains its own original, unless ``training_seeds`` are given."""
    for seed in suite.seeds:
        for training_seed in suite.training_seeds or [seed]:
            yield seed, training_seed


def steps_before(suite: Suite, ratio: float) -> tuple[float, ...]:
    """In a sequence of deletions, the ratios that come before this one."""
    return tuple(sorted(r for r in set(suite.ratios) if r < ratio)) if suite.sequence else ()


def forget_set(suite: Suite, ratio: float, seed: int) -> ForgetSet:
    """The forget set of a ratio; a list file counts by the hash of its content."""
    options = suite.sampler.options
    forget = ForgetSet(sampler=suite.sampler.name, ratio=ratio, seed=seed, options=options)
    if suite.sampler.name == "from_file":
        sha = hashlib.sha256(list_file(forget).read_bytes()).hexdigest()
        forget = forget.model_copy(update={"options": {**options, "sha256": sha}})
    if suite.sampler.name == "class" and not options.get("classes"):
        raise SuiteError(f"{suite.name}: sampler 'class' needs classes: [0, ...] beside its name.")
    return forget


def resolve_training(suite: Suite, task: TaskEntry, model: ModelEntry) -> Training:
    """The task's training, changed by what the architecture asks for, then by the suite, then by the suite's model entry."""
    own = TASKS.get(task.name).training.model_dump()
    merged = {**own, **MODELS.get(model.name).training, **suite.training, **model.training}
    try:
        return Training(**merged)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise SuiteError(f"{suite.name}: training.{key} = {fault['input']!r}: {fault['msg']}.") from None


def split_name(recipe: Recipe) -> str:
    """File name of a forget set's manifest."""
    forget = recipe.forget
    cut = f"-{recipe.subset}" if recipe.subset else ""
    tail = f"-{digest(forget.options, 8)}" if forget.options else ""
    return f"{recipe.task}{cut}-{forget.sampler}-{forget.ratio:g}-seed{forget.seed}{tail}"
