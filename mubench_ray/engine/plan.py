"""The plan: a suite resolved into originals, retrains and trials, before anything runs."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from mubench_ray.engine.forget_sets import forget_sets
from mubench_ray.engine.tuned import Settled, settings_for
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.forget import Scored
from mubench_ray.methods import METHODS, LearningRate, Method
from mubench_ray.models import MODELS, get_model
from mubench_ray.models.base import check_checkpoint
from mubench_ray.models.same_weights import same_weights
from mubench_ray.observations.base import Kind
from mubench_ray.results.configurations import how
from mubench_ray.search import Configuration, Ranges, ranges
from mubench_ray.search_schema import Search
from mubench_ray.suite import MethodEntry, ModelEntry, Suite, TaskEntry
from mubench_ray.tasks import TASKS
from mubench_ray.trial import CONTROLS, ForgetSet, Recipe, Training, Trial, Unlearning, digest, own_name, renamed
from mubench_ray.trials.observing import Wanted, feeding, recipes, refused
from mubench_ray.trials.versions import hashing_weights_once, scoring, step_before, versioned
from mubench_ray.tuned.settings import Taken


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
    #: Observations that trials of it cannot be looked at for.
    unobservable: list[LeftOut] = field(default_factory=list)
    #: What there is to say of checkpoints: where a task does something else with them than their authors did.
    remarks: list[str] = field(default_factory=list)
    #: What tuned settings its trials took, and what runs as the suite gives it because there are none, and why.
    settled: list[Settled] = field(default_factory=list)
    untuned: list[LeftOut] = field(default_factory=list)

    @functools.cached_property
    def observations(self) -> tuple[Wanted, ...]:
        """What the suite asks for beside what every trial is looked at for."""
        return wanted_by(self.suite)

    @functools.cached_property
    def searched_observations(self) -> tuple[Wanted, ...]:
        """Those of them that an objective of the search reads: all that its trials are looked at for."""
        return searched_by(self.suite)

    def needs(self, trial: Trial, wanted: Iterable[Wanted] | None = None) -> tuple[str, ...]:
        """Ids of the artifacts, and of the step before in a sequence, that a trial waits for; ``wanted`` are its observations, the suite's unless given."""
        starts = METHODS.get(trial.method).start != "retrain"
        needed = recipes(
            trial,
            self.observations if wanted is None else wanted,
            started_from(trial, bool(starts and not trial.after)),
        )
        return (*([step_before(trial).id] if starts and trial.after else []), *(recipe.id for recipe in needed))

    @property
    def found(self) -> dict[str, str]:
        """What was found of data and networks that are the user's own, by what they are called: how much there is of what, and what to know of it."""
        tasks = {entry.label: TASKS.get(entry.name) for entry in self.suite.tasks}
        entries = [model for entry in self.suite.tasks for model in self.suite.models_of(entry)]
        models = {
            entry.label: get_model(entry.name, source)
            for entry in entries
            for source in (entry.checkpoint, entry.original)
            if source is not None and Path(source).exists()
        }
        finds = {name: getattr(thing, "found", None) for name, thing in (tasks | models).items()}
        said = {name: find() for name, find in finds.items() if find is not None}
        return {name: text for name, text in said.items() if text}

    @property
    def continued(self) -> set[str]:
        """Ids of the trials that another one goes on from."""
        return {step_before(trial).id for trial in self.trials.values() if trial.after}

    @property
    def originals(self) -> list[Recipe]:
        """Recipes of the originals."""
        return [recipe for recipe in self.recipes.values() if recipe.kind == "original"]

    @property
    def retrains(self) -> list[Recipe]:
        """Recipes of the retrains."""
        return [recipe for recipe in self.recipes.values() if recipe.kind == "retrain"]


@dataclass(frozen=True)
class Combination:
    """One method on one model of one task: what a search tunes, for one forget set."""

    suite: Suite
    task: TaskEntry
    model: ModelEntry
    entry: MethodEntry
    method: Method
    training: Training

    @property
    def lrs(self) -> list[float | None]:
        """Its grid of learning rates; one None where it takes no gradient steps."""
        return self.suite.lrs_of(self.entry)

    @property
    def rate(self) -> LearningRate | None:
        """The method's own learning rate, whose range a search goes through, where the suite asks for it."""
        return self.suite.rate_of(self.entry)

    @property
    def budget_epochs(self) -> float | None:
        """Passes over D_R that stand for a retrain's cost, where a checkpoint itself is the original."""
        task = TASKS.get(self.task.name)
        given = task.pretrained_original and self.model.checkpoint and not self.model.original
        return task.budget_epochs if given else None

    @functools.cached_property
    def forget_sets(self) -> list[ForgetSet]:
        """The forget sets that every method is given on this model of this task."""
        return forget_sets(self.suite, self.task, self._scoring)

    @functools.cached_property
    def searched_observations(self) -> tuple[Wanted, ...]:
        """What an objective of the suite's search reads."""
        return searched_by(self.suite)

    @functools.cached_property
    def lists(self) -> str | None:
        """What tells apart a sampler's files of all ratios."""
        return self.suite.sampler.configured().lists()

    def _scoring(self, sampler: Scored) -> Recipe:
        """The network that scores D: trained as an original of this model, or of the one that the sampler names."""
        model, training = self.model, self.training
        if sampler.model is not None:
            name = MODELS.canonical(sampler.model)
            model = next((entry for entry in self.suite.models if entry.name == name), ModelEntry(name=name))
            training = resolve_training(self.suite, self.task, model)
        if reason := MODELS.get(model.name).refusal(TASKS.get(self.task.name)):
            raise SuiteError(
                f"{self.suite.name}: sampler: model {model.label} cannot score {self.task.label}: {reason}."
            )
        if self.budget_epochs is not None:
            raise SuiteError(
                f"{self.suite.name}: sampler {sampler.name} needs a network that is trained on D and is not the original, and the original of "
                f"{self.task.label} is the checkpoint of {self.model.label} as it is."
            )
        half = 0 if sampler.pool else None
        data = self.task.name, self.task.subset
        return scoring(
            *data, model.name, model.checkpoint, training, half, model.original, validation=self.task.validation
        )

    @functools.cached_property
    def unlearning(self) -> Unlearning:
        """Options of its trials: the suite's, and what is set beside the method."""
        return changed(self.suite.unlearning, self.entry.options)

    @functools.cached_property
    def ranges(self) -> Ranges | None:
        """What the suite's search searches of it; None for a control, and where all that could be is set by hand. Raises SuiteError for a space that holds what
        the method refuses."""
        if self.entry.name in CONTROLS:
            return None
        search, given = search_of(self.suite), self.entry.model_extra or {}
        said = search.spaces_of(self.task.name, self.entry.name, self.training.epochs)
        by_hand = "lrs" in self.suite.model_fields_set and search.of_preset("lr")
        if self.entry.lrs or by_hand:
            said.pop("lr", None)
        try:
            found = ranges(
                self.entry.name, given, self.rate or self.lrs, search.hyperparameters, search.strategy == "grid", said
            )
        except MubenchError as error:
            raise SuiteError(f"{self.suite.name}: {error}") from error
        return found if found.spaces else None

    def given(self) -> list[Configuration]:
        """What a suite without a search runs: the hyperparameters as they are set, at every learning rate."""
        return [Configuration(self.method.hyperparameters(), lr) for lr in self.lrs]

    def trial(self, forget: ForgetSet, seed: int, training_seed: int, configuration: Configuration) -> Trial:
        """One trial of the combination, with the versions of what it is made with."""
        trial = Trial(
            task=self.task.name,
            subset=self.task.subset,
            validation=self.task.validation,
            model=self.model.name,
            pretrained=self.model.checkpoint,
            original_checkpoint=self.model.original,
            saw=self.model.saw,
            original_from=self.model.original_from,
            method=self.entry.name,
            hyperparameters=configuration.hyperparameters,
            forget=forget,
            seed=seed,
            training_seed=training_seed,
            lr=configuration.lr,
            after=steps_before(self.suite, forget.ratio) if self.method.start != "retrain" else (),
            half=training_seed if self.suite.halves else None,
            training=self.training,
            unlearning=changed(self.unlearning, configuration.options),
            budget=self.suite.budget,
            budget_epochs=self.budget_epochs,
            sequence=self.suite.sequence and self.method.start != "retrain",
            lists=self.lists,
        )
        return versioned(trial)

    def tuned_trial(self, forget: ForgetSet, seed: int, training_seed: int, configuration: Configuration) -> Trial:
        """A trial of the combination with what the suite's search chose for it; the id is that of ``trial``."""
        trial, search = self.trial(forget, seed, training_seed, configuration), search_of(self.suite)
        rates = [f"{self.rate.low:g} to {self.rate.high:g}"] if self.rate else self.lrs
        options = self.ranges.options if self.ranges else []
        tuned = how(search.model_dump(exclude_none=True), self.entry.name, self.entry.hyperparameters, rates, options)
        # What an objective reads of an observation is as the observation was made.
        if self.searched_observations:
            tuned["observations"] = [each.model_dump(mode="json") for each in self.searched_observations]
        return Trial.model_validate(trial.model_dump() | {"tuned": tuned})


def changed(options: Unlearning, by: dict[str, Any]) -> Unlearning:
    """The options with other values of some, each in its type."""
    return Unlearning.model_validate(options.model_dump() | by) if by else options


def wanted_by(suite: Suite) -> tuple[Wanted, ...]:
    """The observations that a suite asks for, as they are made here and now."""
    return tuple(Wanted.now(entry.name, entry.options) for entry in suite.observations)


def searched_by(suite: Suite) -> tuple[Wanted, ...]:
    """Those of a suite's observations that an objective of its search reads; raises ValueError where it does not search."""
    return tuple(feeding(wanted_by(suite), search_of(suite).objectives))


def search_of(suite: Suite) -> Search:
    """The search of a suite; raises ValueError where it has none."""
    if suite.search is None:
        raise ValueError(f"{suite.name} does not search")
    return suite.search


@hashing_weights_once()
def make_plan(suite: Suite) -> Plan:
    """Resolve a suite; raises SuiteError when its training options do not validate or nothing at all can apply.

    Each combination runs with the configurations that the suite gives, at tuned settings where it asks for them or, where it searches, with one that stands
    for the one to be chosen.
    """
    plan = Plan(suite)
    for combination in combinations(suite, plan.left_out, plan.remarks):
        made = [trial for forget in combination.forget_sets for trial in trials_of(combination, forget, plan)]
        if made and all(trial.id in plan.trials for trial in made):
            raise SuiteError(
                f"{suite.name}: {combination.task.label} x {combination.model.label} x {combination.entry.name} is named twice, with nothing that differs in "
                "any of its trials: remove one of the two entries, or say what is to differ."
            )
        plan.trials |= {trial.id: trial for trial in made}
    if not plan.trials:
        reasons = "; ".join(f"{part.what}: {part.reason}" for part in plan.left_out)
        raise SuiteError(f"{suite.name}: no combination of the suite can apply: {reasons}.")
    plan.recipes = recipes_of(plan.trials.values(), plan.observations)
    plan.unobservable = list(unobservable(plan))
    return plan


def trials_of(combination: Combination, forget: ForgetSet, plan: Plan) -> list[Trial]:
    """The trials of a combination with one forget set; what tuned settings they took, or why they took none, is noted in the plan."""
    suite, given, pairs = combination.suite, combination.given(), list(seed_pairs(combination.suite))
    if suite.search:
        return [combination.tuned_trial(forget, *pair, given[0]) for pair in pairs]
    first = combination.trial(forget, *pairs[0], given[0])
    found = settings_for(suite, combination.entry, first)
    if isinstance(found, Taken):
        trials = [found.apply(combination.trial(forget, *pair, given[0])) for pair in pairs]
        plan.settled.append(Settled(trials[0], found))
        return trials
    trials = [combination.trial(forget, *pair, configuration) for pair in pairs for configuration in given]
    if found is not None:
        what = f"{first.task} x {first.model} x {first.method}, {forget.ratio:g} %"
        plan.untuned.append(LeftOut(what, len(trials), found))
    return trials


def kept_bytes(plan: Plan) -> tuple[int, int]:
    """How many unlearned networks the suite keeps, and about how many bytes they take."""
    keep, share = plan.suite.keep, plan.suite.unlearning.lora
    if keep == "none":
        return 0, 0
    whole = 1.0 if keep == "all" else share or 0.0
    counted = Counter((trial.task, trial.model) for trial in plan.trials.values())
    sizes = {
        key: sum(t.numel() * t.element_size() for t in meta_network(*key).state_dict().values()) for key in counted
    }
    return sum(counted.values()), round(whole * sum(sizes[key] * count for key, count in counted.items()))


def started_from(trial: Trial, original: bool = True) -> list[Kind]:
    """Kinds of the artifacts that a trial starts from and is budgeted by; without an ``original`` only where nothing else gives its budget."""
    retrainable = trial.retrain is not None
    return [*(["original"] if original or not retrainable else []), *(["retrain"] if retrainable else [])]


def unobservable(plan: Plan) -> Iterator[LeftOut]:
    """The observations that trials of the plan cannot be looked at for, a line a task."""
    for each in plan.observations:
        counted: Counter[tuple[str, str]] = Counter()
        for trial in plan.trials.values():
            if reason := refused(trial, each.name):
                counted[own_name(trial.task), reason] += 1
        for (task, reason), number in counted.items():
            yield LeftOut(f"{task} x {each.name}", number, reason)


def combinations(
    suite: Suite, left_out: list[LeftOut] | None = None, remarks: list[str] | None = None
) -> Iterator[Combination]:
    """Every combination of the suite that can apply; the others go into ``left_out`` with their reason, and what there is to say of checkpoints into
    ``remarks``."""
    left_out = [] if left_out is None else left_out
    remarks = [] if remarks is None else remarks
    each = max(1, len(suite.ratios)) * len(suite.forget_seeds) * len(list(seed_pairs(suite)))

    def trials(entry: MethodEntry, lrs: int) -> int:
        return each * (1 if suite.search or suite.tuned_for(entry) else lrs)

    for task in suite.tasks:
        if task.subset and 0 < (there := TASKS.get(task.name).size_of_d(None, task.validation)) < task.subset:
            raise SuiteError(
                f"{suite.name}: {task.label} has {there} training examples, subset: {task.subset} is more; leave it out for all of them."
            )
    for task, model in [(entry, model) for entry in suite.tasks for model in suite.models_of(entry)]:
        training = resolve_training(suite, task, model)
        if reason := MODELS.get(model.name).refusal(TASKS.get(task.name)):
            counts = [len(suite.lrs_of(entry)) for entry in suite.methods]
            left_out.append(LeftOut(f"{task.label} x {model.label}", sum(map(trials, suite.methods, counts)), reason))
            continue
        remarks += [each for each in check_checkpoints(task, model) if each not in remarks]
        check_contamination(suite, task, model)
        MODELS.get(model.name).tried(TASKS.get(task.name)())
        for entry in suite.methods:
            combination = Combination(suite, task, model, entry, entry.configured(), training)
            reason = combination.method.refusal(TASKS.get(task.name))
            reason = reason or refused_by_network(type(combination.method), task.name, model.name)
            examples = TASKS.get(task.name).size_of_d(task.subset, task.validation) or None
            reason = reason or combination.method.refusal_for_options(combination.unlearning, examples)
            if combination.budget_epochs is not None:
                reason = reason or without_retrain(combination)
            if reason:
                what = f"{task.label} x {model.label} x {entry.name}"
                left_out.append(LeftOut(what, trials(entry, len(combination.lrs)), reason))
            else:
                yield combination


def check_checkpoints(task: TaskEntry, model: ModelEntry) -> list[str]:
    """What there is to say of a model's checkpoints; raises MubenchError where one on this machine is not what the suite takes it for."""
    said: list[str] = []
    for checkpoint, finished in ((model.checkpoint, False), (model.original, True)):
        if checkpoint is not None:
            base = model.checkpoint if finished else None
            said += check_checkpoint(model.name, checkpoint, TASKS.get(task.name)(), finished, base) or []
    return said


def check_contamination(suite: Suite, task: TaskEntry, model: ModelEntry) -> None:
    """Raises SuiteError where an original has seen what is taken for unseen: D_V, and where a retrain would start from what has seen D_F."""
    if model.original is None:
        return
    where, data = f"{suite.name}: models: {model.label}", TASKS.get(task.name)
    if model.saw == "train" and data.carves_test:
        raise SuiteError(
            f"{where}: saw: train: its original has seen all of {own_name(task.name)}'s training examples, and D_V and D_Test are parts of those, as the data "
            "has no test set of its own: nothing is left that it has not seen. Give the data a test folder or split."
        )
    if model.saw == "train" and data.carves_validation and not task.validation:
        raise SuiteError(
            f"{where}: saw: train: its original has seen all of {own_name(task.name)}'s training list, and D_V is a part of that: attacks would take members "
            f"for non-members, and selection would be made on them. Take D_V from the test set: tasks: {{name: {task.name}, validation: test-half}}."
        )
    if (base := model.checkpoint) is None:
        return
    spelled = {checkpoint_source(model.name, source) for source in (model.original, base)}
    if len(spelled) == 1 or (all(map(os.path.exists, spelled)) and same_weights(model.original, base)):
        raise SuiteError(
            f"{where}: original: {model.original} and pretrained: {base} hold the same weights: the retrain would start from what has seen D_F, or the "
            "original is not trained on the task. `original` is the network trained on the task, `pretrained` what its training started from: name the "
            "base there, or leave it out."
        )


def checkpoint_source(model: str, source: str) -> str:
    """A checkpoint spelled in one way: the published weights by their hub id and revision, a path in full."""
    known = MODELS.get(model)
    if source == "published" and known.hub:
        source = known.hub
    if source == known.hub and known.revision:
        source = f"{source}@{known.revision}"
    return os.path.realpath(source) if os.path.exists(source) else source


def without_retrain(combination: Combination) -> str | None:
    """Why a combination whose original is a checkpoint as it is cannot run, or None; raises SuiteError where the suite caps what only a retrain has."""
    suite, task = combination.suite, combination.task.label
    if isinstance(suite.budget.seconds, float):
        raise SuiteError(
            f"{suite.name}: budget.seconds = {suite.budget.seconds:g} is a share of the retrain's seconds, and {task} from a checkpoint has no "
            "retrain; use auto or null."
        )
    if combination.method.start == "retrain":
        return f"the checkpoint of {combination.model.label} is the original of {task}: what it was trained on cannot be trained on again without D_F"
    return None


def recipes_of(trials: Iterable[Trial], observations: Iterable[Wanted] = ()) -> dict[str, Recipe]:
    """The originals, retrains and networks to compare with that trials and their observations need, by id."""
    observations = tuple(observations)
    found: dict[str, Recipe] = {}
    known: set[tuple[Any, ...]] = set()
    for trial in trials:
        # Hashing a recipe costs more than the trial itself; most trials share theirs.
        training = digest(trial.training.model_dump())
        network = (trial.model, trial.pretrained, trial.original_checkpoint, *sorted(trial.versions.items()))
        forget = (trial.forget.sampler, trial.forget.ratio, trial.forget.seed)
        key = (
            trial.task,
            trial.subset,
            trial.validation,
            *network,
            training,
            trial.training_seed,
            trial.half,
            trial.unlearning.frozen,
            *forget,
        )
        if key not in known:
            found |= {recipe.id: recipe for recipe in recipes(trial, observations, started_from(trial))}
        known.add(key)
    return found


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
    """(seed, training seed): each seed trains its own original, unless ``training_seeds`` are given; in a shadow pool each half trains its own."""
    for seed in suite.seeds:
        for training_seed in suite.training_seeds or range(suite.halves or 0) or [seed]:
            yield seed, training_seed


def steps_before(suite: Suite, ratio: float) -> tuple[float, ...]:
    """In a sequence of deletions, the ratios that come before this one."""
    return tuple(sorted(r for r in set(suite.ratios) if r < ratio)) if suite.sequence else ()


def resolve_training(suite: Suite, task: TaskEntry, model: ModelEntry) -> Training:
    """The task's training, changed by what the architecture asks for, then by the suite, then by the suite's model entry."""
    own = TASKS.get(task.name).training.model_dump()
    try:
        merged = {**own, **MODELS.get(model.name).training, **renamed(suite.training), **renamed(model.training)}
    except ValueError as error:
        raise SuiteError(f"{suite.name}: training: {error}.") from None
    try:
        return Training(**merged)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        raise SuiteError(f"{suite.name}: training.{key} = {fault['input']!r}: {message}.") from None


def split_name(recipe: Recipe | Trial) -> str:
    """File name of a forget set's manifest."""
    forget = recipe.forget
    if forget is None:
        raise ValueError(f"{recipe.id} has no forget set")
    cut = f"-{recipe.subset}" if recipe.subset else ""
    cut += f"-{recipe.validation}" if recipe.validation else ""
    cut += f"-half{recipe.half}" if recipe.half is not None else ""
    options = forget.options | ({"scored_by": forget.scored_by.id} if forget.scored_by else {})
    tail = f"-{digest(options, 8)}" if options else ""
    return f"{own_name(recipe.task)}{cut}-{forget.sampler}-{forget.ratio:g}-seed{forget.seed}{tail}"
