"""What a plan will cost, at most, before anything runs."""

from __future__ import annotations

import json
from collections import defaultdict

from mubench_ray.engine.plan import Plan, recipes_of
from mubench_ray.engine.tuning import outline
from mubench_ray.methods import METHODS, Method
from mubench_ray.models.counts import count
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.examples import VALIDATION_SHARE
from mubench_ray.trial import CONTROLS, Recipe, Trial

#: Rates that the hours are told for, in FLOs a second of real training (not the vendor's peak).
RATES = {"CPU core": 5e9, "A100-class GPU in fp32": 2e13}


def plan_flos(plan: Plan) -> float:
    """An upper bound: every original and retrain in full, every trial up to its cap; those of a search included."""
    shares: defaultdict[tuple, float] = defaultdict(float)
    searched = list(outline(plan.suite)) if plan.suite.search else []
    of_search = recipes_of((trial for trial, _ in searched), plan.searched_observations) if searched else {}
    for recipe in (plan.recipes | of_search).values():
        if recipe.training is not None:
            data = recipe.task, recipe.model, recipe.subset, recipe.validation
            shares[*data, part(recipe), recipe.training.epochs] += 1
    for trial, alike in [*((trial, 1) for trial in plan.trials.values()), *searched]:
        if trial.method not in CONTROLS:
            # Where there is no retrain, the task's own budget stands for it.
            epochs = trial.budget_epochs or trial.training.epochs
            data = trial.task, trial.model, trial.subset, trial.validation
            shares[*data, part(trial), epochs] += alike * (trial.budget.flos or 1.0)
    return sum(
        share * of_it * epochs * TASKS.get(task).size_of_d(subset, validation) * count(task, model).training
        for (task, model, subset, validation, of_it, epochs), share in shares.items()
    )


def part(content: Recipe | Trial) -> float:
    """How much is trained on, as a share of D; of a trial, what its retrain is trained on."""
    share = 1.0 if content.half is None else 0.5
    on = getattr(content, "on", None)
    if on == "validation":
        if content.validation:  # half of the test set
            task = TASKS.get(content.task)
            return share * task.card.sizes.get("test", 0) / 2 / (task.size_of_d(None, content.validation) or 1)
        return share * VALIDATION_SHARE / (1 - VALIDATION_SHARE)
    if content.forget is None:
        return share
    forgotten = content.forget.ratio / 100
    return share * (forgotten if on == "forget" else 1 - forgotten)


def estimate(plan: Plan) -> str:
    """The bound as a sentence."""
    flos = plan_flos(plan)
    times = ", ".join(f"{spoken(flos / rate)} of a {what} ({rate:.0e} a second)" for what, rate in RATES.items())
    told = f"At most {flos:.2e} FLOs, if every trial spends its whole budget: about {times}."
    return " ".join(
        [
            told,
            *(f"{name} keeps up to {size / 2**30:.2g} GiB beside its networks." for name, size in kept(plan).items()),
        ]
    )


def kept(plan: Plan) -> dict[str, int]:
    """The methods that keep something beside their networks, and the most bytes that a trial of each may keep."""
    most: dict[str, int] = {}
    settings = {(t.method, t.task, t.model, json.dumps(t.hyperparameters)): t for t in plan.trials.values()}
    for (name, *_), trial in settings.items():
        method = METHODS.get(name)
        if method.memory is not Method.memory:
            size = method.configure(trial.hyperparameters).memory(count(trial.task, trial.model).parameters)
            most[name] = max(size, most.get(name, 0))
    return most


def spoken(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{max(seconds, 0.1):.1f} seconds"
