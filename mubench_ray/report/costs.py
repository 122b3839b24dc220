"""What a trial cost beside its retrain, with and without what tuning its method cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.report.grouping import group_by, numbers
from mubench_ray.results.repetitions import countable, terms, unlike_precision
from mubench_ray.results.store import Store
from mubench_ray.status import UNCOMPARED


def charged(store: Store) -> dict[str, Any]:
    """The choices whose cost a folder's trials are charged: those of its own search, and those that came as tuned settings."""
    chosen, tuned = store.read_object("search/chosen.json"), store.read_object("tuned.json")
    choices = [*(chosen.get("choices") or []), *(tuned.get("choices") or [])]
    return chosen | ({"choices": choices} if choices else {})


def with_costs(trials: pa.Table, chosen: Mapping[str, Any]) -> pa.Table:
    """The trials with the columns ``flos_efficiency`` and, where it is known what tuning cost (``chosen``: ``charged``),
    ``flos_share_with_tuning``, ``flos_efficiency_with_tuning`` and ``retrain_time_efficiency_with_tuning``.

    A trial is charged all that tuning its method for its ratio and forget set took: every search trial, whatever became of it, and in full the originals
    and retrains of the selection seeds, which whoever tunes this method alone has to train, too. Nothing is divided by the number of seeds that are then
    reported: it is what one deployment costs. Controls and methods that were not tuned are charged nothing.

    Seconds enter only where all of them were spent on the same terms; those of a retrain in another precision (of an earlier release, which compared them)
    are taken out.
    """
    unlike = unlike_precision(trials)
    for name in ("retrain_seconds", "retrain_time_efficiency"):
        if name in trials.column_names and unlike.any():
            trials = _with(trials, name, np.where(unlike, np.nan, numbers(trials, name)))
    flos, seconds = numbers(trials, "flos"), numbers(trials, "seconds")
    retrain_flos, retrain_seconds = numbers(trials, "retrain_flos"), numbers(trials, "retrain_seconds")
    if np.isfinite(retrain_flos).any():
        trials = _with(trials, "flos_efficiency", _ratio(retrain_flos, flos))
    of_tuning = bills(trials, chosen)
    if of_tuning is None:
        return trials
    tuning_flos, tuning_seconds = of_tuning
    trials = _with(trials, "flos_share_with_tuning", _ratio(flos + tuning_flos, retrain_flos))
    trials = _with(trials, "flos_efficiency_with_tuning", _ratio(retrain_flos, flos + tuning_flos))
    whole = _ratio(retrain_seconds, seconds + tuning_seconds)
    return _with(trials, "retrain_time_efficiency_with_tuning", whole) if np.isfinite(whole).any() else trials


def bills(trials: pa.Table, chosen: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """FLOs and seconds (N,) of tuning each trial's method: NaN where they are not known, or for seconds where any were spent on other terms than the trial's;
    None of a folder whose search does not say."""
    choices = [choice for choice in chosen.get("choices") or [] if "networks" in choice]
    if not choices:
        return None
    of = {(each["configuration"], each["ratio"], each["forget_seed"]): each for each in choices}
    keys = zip(*(trials[name].to_pylist() for name in ("configuration", "ratio", "forget_seed")), strict=True)
    flos, seconds = np.zeros(len(trials)), np.zeros(len(trials))
    for place, (key, own_terms) in enumerate(zip(keys, terms(trials).to_pylist(), strict=True)):
        if key in of:
            parts = of[key], of[key]["networks"]
            flos[place] = sum(part["flos"] for part in parts)
            alike = all(part["seconds"] is not None and set(part["terms"]) <= {own_terms} for part in parts)
            seconds[place] = sum(part["seconds"] for part in parts) if alike else np.nan
        elif "tuned" in json.loads(key[0])["contender"]:
            flos[place] = seconds[place] = np.nan
    return flos, seconds


def on_several_terms(trials: pa.Table, among: np.ndarray) -> np.ndarray:
    """Mask (N,) of the trials whose configuration and ratio ran on several terms (in the rows of the mask ``among``)."""
    return group_by(trials, ["configuration", "ratio"]).mixed(terms(trials), among)


def uncompared(trials: pa.Table) -> list[str]:
    """A line for every (task, model) of which some seconds are not given, and why, and for every other mark of its rows."""
    told: dict[tuple[str, str], list[str]] = {}
    usable = countable(trials)
    mixed = np.flatnonzero(on_several_terms(trials, usable) & usable)
    rows = (
        trials.select(["task", "model", "method"])
        .append_column("terms", terms(trials))
        .take(pa.array(mixed))
        .to_pylist()
    )
    for cell in sorted({(row["task"], row["model"]) for row in rows}):
        own = [row for row in rows if (row["task"], row["model"]) == cell]
        ran = "; ".join(sorted({row["terms"] or "an unknown device" for row in own}))
        methods = ", ".join(sorted({row["method"] for row in own}))
        told.setdefault(cell, []).append(
            f"seconds of {methods} have no mean, since trials of one line ran on several terms ({ran})"
        )
    marked = trials.select(["task", "model", "marks"]).filter(pc.field("marks").is_valid()).to_pylist()
    counted = Counter((row["task"], row["model"], mark) for row in marked for mark in json.loads(row["marks"]))
    for (task, model, mark), number in sorted(counted.items()):
        instead = "; RTE by FLOs compares them" if mark.startswith(UNCOMPARED) else ""
        told.setdefault((task, model), []).append(f"of {number} trials {mark}{instead}")
    return [f"{task}, {model}: {line}." for (task, model), lines in sorted(told.items()) for line in lines]


def unbilled(chosen: Mapping[str, Any]) -> list[str]:
    """A line for every choice of a search of whose cost some is not known: what is charged for tuning is then at least that."""
    told = []
    for choice in chosen.get("choices") or []:
        trials, networks = choice.get("unknown", 0), (choice.get("networks") or {}).get("unknown", 0)
        if trials or networks:
            told.append(
                f"{choice['task']}, {choice['model']}, {choice['method']}, {choice['ratio']:g} %: what is charged for tuning is too little, "
                f"{trials} of {choice['trials']} search trials and {networks} of their networks left no bill."
            )
    return told


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """NaN where nothing was spent."""
    return over / np.where(under > 0, under, np.nan)


def _with(trials: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    column = pa.array(values, pa.float64(), from_pandas=True)
    place = trials.schema.get_field_index(name)
    return trials.append_column(name, column) if place < 0 else trials.set_column(place, name, column)
