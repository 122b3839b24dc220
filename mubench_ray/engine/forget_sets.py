"""The forget sets of a plan: which ratios can be asked for, found before anything runs."""

from __future__ import annotations

import functools
from collections.abc import Callable

from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.forget import Sampler, Scored, split_forget
from mubench_ray.suite import Suite, TaskEntry
from mubench_ray.tasks import TASKS
from mubench_ray.trial import ForgetSet, Recipe
from mubench_ray.trials.data import load_task


def forget_sets(suite: Suite, task: TaskEntry, scoring: Callable[[Scored], Recipe]) -> list[ForgetSet]:
    """The forget sets of a suite on one of its tasks, ratio by ratio; ``scoring`` gives the recipe of a sampler's scoring network.

    Raises SuiteError for a ratio that is not the data's, cannot be drawn from it or is no example, and for two that would be one set: each would be a
    line of its own.
    """
    sampler, kind = suite.sampler.configured(), TASKS.get(task.name)
    ratios = given(sampler, suite, task) if sampler.whole else suite.ratios
    if not sampler.whole:
        require_counts(suite, task)
    scored_by = scoring(sampler) if isinstance(sampler, Scored) else None
    sets = []
    for ratio in ratios:
        if refusal := sampler.refusal(kind, ratio):
            raise SuiteError(f"{suite.name}: sampler: {refusal}.")
        options = sampler.prepared(ratio).options
        told = {"sampler": sampler.name, "ratio": ratio, "options": options, "scored_by": scored_by}
        sets += [ForgetSet(seed=seed, **told) for seed in suite.forget_seeds]
    if sampler.drawn_to_plan and not suite.halves:
        require_drawn(sets, suite, task)
    return sets


def require_counts(suite: Suite, task: TaskEntry) -> None:
    """Raises SuiteError for a ratio of no example at all, and for two that are the same number of them."""
    train = TASKS.get(task.name).size_of_d(task.subset, task.validation)
    train = train // 2 if suite.halves else train
    counted: dict[int, float] = {}
    for ratio in sorted(set(suite.ratios)) if train else ():
        wanted = round(train * ratio / 100)
        if wanted == 0:
            raise SuiteError(
                f"{suite.name}: ratios: {ratio:g} % of {train} examples of {task.label} is no example: say more."
            )
        if wanted in counted:
            raise SuiteError(
                f"{suite.name}: ratios: {counted[wanted]:g} and {ratio:g} % of {train} examples of {task.label} are the same {wanted}: leave one "
                "of them out."
            )
        counted[wanted] = ratio


def require_drawn(sets: list[ForgetSet], suite: Suite, task: TaskEntry) -> None:
    """Raises SuiteError for a set that cannot be drawn from the data as it is, and for two ratios that are the same examples."""
    found: dict[tuple[int, str], float] = {}
    for forget in sets:
        try:
            drawn = drawn_set(forget.model_dump_json(), task.name, task.subset, suite.data_dir, task.validation)
        except MubenchError as error:
            raise SuiteError(f"{suite.name}: {error}") from error
        if (other := found.setdefault((forget.seed, drawn), forget.ratio)) != forget.ratio:
            raise SuiteError(
                f"{suite.name}: ratios: {other:g} and {forget.ratio:g} % of {task.label} are the same examples by sampler {forget.sampler}: leave one of them "
                "out."
            )


def given(sampler: Sampler, suite: Suite, task: TaskEntry) -> list[float]:
    """The ratios of what the data gives, or those of them that the suite names; raises SuiteError where it names another, or the data has not what is named."""
    try:
        shares = given_ratios(
            type(sampler), sampler.model_dump_json(), task.name, task.subset, suite.data_dir, task.validation
        )
    except MubenchError as error:
        raise SuiteError(f"{suite.name}: {error}") from error
    if max(shares) >= 100:
        raise SuiteError(f"{suite.name}: sampler {sampler.name} forgets all of {task.label}: nothing is left to keep.")
    if wrong := [ratio for ratio in suite.ratios if ratio not in shares]:
        there = ", ".join(f"{share:g}" for share in shares)
        raise SuiteError(
            f"{suite.name}: ratios: {wrong[0]:g} is given, and what sampler {sampler.name} forgets of {task.label} is {there} %: leave `ratios` out to forget "
            f"the whole; `mubench list samplers {sampler.name}` says whether a part, below that, can be asked for."
        )
    return suite.ratios or shares


@functools.lru_cache(maxsize=256)
def drawn_set(forget: str, task: str, subset: int | None, data_dir: str | None, validation: str | None = None) -> str:
    """The hash of a forget set (as JSON), for which the data is read."""
    splits = load_task(task, subset, data_dir, validation)[1]
    drawn = split_forget(splits.train, ForgetSet.model_validate_json(forget), listed=splits.listed)
    return str(drawn.manifest["sha256"])


@functools.lru_cache(maxsize=64)
def given_ratios(
    sampler: type[Sampler],
    options: str,
    task: str,
    subset: int | None,
    data_dir: str | None,
    validation: str | None = None,
) -> list[float]:
    """The ratios of what the data gives, for which the data is read."""
    return sampler.model_validate_json(options).shares(load_task(task, subset, data_dir, validation)[1].train)
