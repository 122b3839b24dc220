"""What a plan will cost, at most, before anything runs."""

from __future__ import annotations

from mubench_ray.engine.plan import Plan
from mubench_ray.models import MODELS
from mubench_ray.models.base import flos_per_sample
from mubench_ray.tasks import TASKS

#: Rates that the hours are told for, in FLOs a second of real training (not the vendor's peak).
RATES = {"CPU core": 5e9, "A100-class GPU in fp32": 2e13}


def plan_flos(plan: Plan) -> float:
    """An upper bound: every original and retrain in full, every trial up to its cap."""
    cells: dict[tuple[str, str], float] = {}
    total = 0.0
    for recipe in plan.recipes.values():
        if recipe.training is not None:
            total += _training_flos(recipe, cells)
    for trial in plan.trials.values():
        if trial.lr is not None:
            # Where there is no retrain, the task's own budget stands for it: passes over D_R.
            training = trial.training.model_copy(update={"epochs": trial.budget_epochs or trial.training.epochs})
            reference = trial.original.model_copy(update={"training": training, "forget": trial.forget})
            total += (trial.budget.flos or 1.0) * _training_flos(reference, cells)
    return total


def _training_flos(recipe, cells: dict[tuple[str, str], float]) -> float:
    key = (recipe.task, recipe.model)
    if key not in cells:
        _, cells[key] = flos_per_sample(TASKS.get(recipe.task)(), MODELS.get(recipe.model))
    rows = recipe.subset or TASKS.get(recipe.task).train_size
    kept = 1 - recipe.forget.ratio / 100 if recipe.forget else 1
    return cells[key] * rows * kept * recipe.training.epochs


def estimate(plan: Plan) -> str:
    """The bound as a sentence."""
    flos = plan_flos(plan)
    times = ", ".join(f"{spoken(flos / rate)} of a {what} ({rate:.0e} a second)" for what, rate in RATES.items())
    return f"At most {flos:.2e} FLOs, if every trial spends its whole budget: about {times}."


def spoken(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{max(seconds, 0.1):.1f} seconds"
