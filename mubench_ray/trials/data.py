"""What this process has loaded: tasks, splits, forget sets; shared by the trials that run in it one after the other."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import torch
from torch import Tensor

from mubench_ray.errors import DataError
from mubench_ray.forget import ForgetSplit, Scores, halves, split_forget
from mubench_ray.forget.base import configured
from mubench_ray.models import get_model
from mubench_ray.tasks import TASKS, Splits, Task
from mubench_ray.tasks.examples import PICTURES, SOUNDS, out_of_range
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.trial import ForgetSet, Recipe, Trial

#: Examples of D whose range is looked at.
LOOKED_AT = 16


@functools.lru_cache(maxsize=2)
def load_task(
    name: str, subset: int | None, data_dir: str | Path | None, validation: str | None = None
) -> tuple[Task, Splits]:
    """The task and its splits, loaded once a process; raises DataError where its pixels or samples are floats that the models' normalisation would make
    all but equal."""
    task = TASKS.get(name)(data_dir)
    splits = task.splits(subset, validation)
    first = splits.train.take(torch.arange(min(LOOKED_AT, len(splits.train))))
    floats = {key: first[key] for key in (*PICTURES, *SOUNDS) if key in first and first[key].is_floating_point()}
    if len(splits.train) and (faults := out_of_range("D", floats)):
        raise DataError(f"task {name}: {faults[0]}. `mubench check {name}` says what else is wrong.")
    return task, splits


@functools.lru_cache(maxsize=2)
def load_half(
    name: str, subset: int | None, data_dir: str | Path | None, half: int | None, validation: str | None = None
) -> tuple[Task, Splits]:
    """The same with D cut down to one half of the training set, the other half as ``unseen``; the whole for None."""
    task, splits = load_task(name, subset, data_dir, validation)
    if half is None:
        return task, splits
    seen, unseen = halves(len(splits.train), half)
    return task, dataclasses.replace(splits, train=splits.train.select(seen), unseen=splits.train.select(unseen))


def split_of(
    made: Trial | Recipe, forget: ForgetSet, data_dir: str | Path | None, scores: tuple[Scores, ...] = ()
) -> ForgetSplit:
    """A forget set drawn from what it trains on; ``scores`` are those of its scoring networks on all of D, of which a half reads its own."""
    task, splits = load_half(made.task, made.subset, data_dir, made.half, made.validation)
    if refusal := configured(forget).refusal(type(task), forget.ratio):
        raise DataError(f"{refusal}.")
    if made.half is not None and scores:
        size = len(load_task(made.task, made.subset, data_dir, made.validation)[1].train)
        own = halves(size, made.half)[0].numpy()
        scores = tuple({name: values[own] for name, values in each.items()} for each in scores)
    return split_forget(splits.train, forget, scores, splits.listed)


def training_data(
    recipe: Recipe, data_dir: str | Path | None, device: str, scores: tuple[Scores, ...] = ()
) -> tuple[UnlearningData, Splits, ForgetSplit | None]:
    """What training of this artifact may see, all splits for its evaluation, and its forget set, drawn with the ``scores`` that it reads, if it has one."""
    task, splits = load_half(recipe.task, recipe.subset, data_dir, recipe.half, recipe.validation)
    forget = split_of(recipe, recipe.forget, data_dir, scores) if recipe.forget else None
    if recipe.on == "validation":
        sets = {"validation": Rows.all_of(splits.validation)}
    elif forget is None:
        sets = {"train": Rows.all_of(splits.train)}
    elif recipe.on == "forget":
        sets = {"forget": Rows(splits.train, forget.forget)}
    else:
        sets = {"retain": Rows(splits.train, forget.retain)}
    return (
        UnlearningData(task, get_model(recipe.model, recipe.pretrained, recipe.original_checkpoint), sets, device),
        splits,
        forget,
    )


def unlearning_data(
    trial: Trial, data_dir: str | Path | None, device: str, scores: tuple[Scores, ...] = ()
) -> tuple[UnlearningData, Splits, ForgetSplit]:
    """What unlearning of this trial may see, all splits for its evaluation, and its forget set, drawn with the ``scores`` that it reads."""
    task, splits = load_half(trial.task, trial.subset, data_dir, trial.half, trial.validation)
    forget = split_of(trial, trial.forget, data_dir, scores)
    sets = {
        "retain": Rows(splits.train, forget.retain),
        "forget": Rows(splits.train, new_to_forget(trial, forget, data_dir, scores)),
        "validation": Rows.all_of(splits.validation),
    }
    return (
        UnlearningData(task, get_model(trial.model, trial.pretrained, trial.original_checkpoint), sets, device),
        splits,
        forget,
    )


def new_to_forget(trial: Trial, forget: ForgetSplit, data_dir: str | Path | None, scores: tuple[Scores, ...]) -> Tensor:
    """D_F of this trial: in a sequence only what the steps before did not forget already."""
    if (previous := trial.previous) is None:
        return forget.forget
    forgotten = split_of(trial, previous.forget, data_dir, scores).forget
    return forget.forget[~torch.isin(forget.forget, forgotten)]
