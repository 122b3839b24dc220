"""The rows of a results folder as everything that takes means over them sees them: each with its configuration, every repetition once.

``named`` says in words what tells configurations apart, for whoever groups by columns.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.metrics.base import timed
from mubench_ray.results.configurations import configuration, setting_names, tuned
from mubench_ray.results.schema import TRIAL_COLUMNS
from mubench_ray.results.store import Store
from mubench_ray.trial import canonical

#: Statuses whose metrics count: a trial stopped by its budget was evaluated like any other.
USABLE = ("ok", "truncated")


def read_trials(store: Store) -> tuple[pa.Table, list[str]]:
    """The trials of a folder: every column of this version, ``configuration`` filled in, each repetition once; and a line for each cell that is left out
    because a trial of it has two results."""
    try:
        chosen = json.loads(store.place.read("search/chosen.json"))
    except (OSError, ValueError):
        chosen = {}
    trials = configured(with_all_columns(store.read("trials")), chosen if isinstance(chosen, dict) else {})
    trials, refused = without_contradictions(trials)
    return once_each(trials), refused


#: Two runs of a trial on one kind of device differ by rounding at most.
ROUNDING = 1e-6


def without_contradictions(trials: pa.Table) -> tuple[pa.Table, list[str]]:
    """The rows without those of cells in which an id stands twice, from one kind of device, with different numbers; a line for each such id."""
    counted = pc.value_counts(trials["trial_id"])
    twice = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
    if not len(twice):
        return trials, []
    numbers = [field.name for field in trials.schema if pa.types.is_floating(field.type) and not timed(field.name)]
    found: dict[tuple[str, str | None], list[dict[str, Any]]] = defaultdict(list)
    for row in trials.filter(pc.is_in(trials["trial_id"], twice)).to_pylist():
        found[row["trial_id"], row["device"]].append(row)
    refused, cells = [], set()
    for (trial_id, _), rows in found.items():
        fault = next((fault for other in rows[1:] if (fault := difference(rows[0], other, numbers))), None)
        if fault is not None:
            cell = f"{rows[0]['task']}, {rows[0]['model']}, {rows[0]['ratio']:g} %"
            refused.append(
                f"{cell} is left out: trial {trial_id} ({rows[0]['method']}) is there twice, with {fault}. Remove the file of one of the two."
            )
            cells.add((canonical(json.loads(rows[0]["configuration"])["setting"]), rows[0]["ratio"]))
    if not cells:
        return trials, []
    texts = trials["configuration"].to_pylist()
    settings = {text: canonical(json.loads(text)["setting"]) for text in set(texts)}
    kept = [
        (settings[text], ratio) not in cells for text, ratio in zip(texts, trials["ratio"].to_pylist(), strict=True)
    ]
    return trials.filter(pa.array(kept)), sorted(refused)


def difference(row: dict[str, Any], other: dict[str, Any], numbers: list[str]) -> str | None:
    """The first of the ``numbers`` in which two rows of one trial differ by more than rounding, or their statuses; None where they are the same."""
    if row["status"] != other["status"]:
        return f"status {row['status']} and {other['status']}"
    for name in numbers:
        ours, theirs = row[name], other[name]
        same = (
            ours == theirs if None in (ours, theirs) else math.isclose(ours, theirs, rel_tol=ROUNDING, abs_tol=ROUNDING)
        )
        if not same and not (ours != ours and theirs != theirs):
            return f"{name} {ours} and {theirs}"
    return None


def with_all_columns(trials: pa.Table) -> pa.Table:
    """Add the fixed columns that a folder of an earlier release lacks, empty."""
    for column in TRIAL_COLUMNS:
        if column.name not in trials.column_names:
            trials = trials.append_column(column.with_nullable(True), pa.nulls(len(trials), column.type))
    return trials


def configured(trials: pa.Table, chosen: dict[str, Any]) -> pa.Table:
    """Fill the column ``configuration`` where rows of an earlier release have none; ``chosen`` is what its search chose."""
    rows = trials.to_pylist() if trials["configuration"].null_count else []
    if not rows:
        return trials
    found = [row["configuration"] or tuned(configuration(row), row, chosen) for row in rows]
    return _with(trials, {"configuration": pa.array(found, pa.string())})


#: What tells rows of one configuration apart.
REPETITION = ["configuration", "ratio", "after", "seed", "training_seed", "forget_seed"]


def once_each(trials: pa.Table) -> pa.Table:
    """Of rows that repeat one another (a control that two suites with different budgets have both run, a trial that a later version made anew) the one
    that counts, and of those the latest: one repetition is one value, whoever ran it."""
    order = pc.sort_indices(
        trials.append_column("counts", pc.is_in(trials["status"], pa.array(USABLE))),
        sort_keys=[("counts", "descending"), ("finished_at", "descending"), ("trial_id", "ascending")],
    )
    places = trials.select(REPETITION).append_column("place", pa.array(np.arange(len(trials)))).take(order)
    kept = places.group_by(REPETITION, use_threads=False).aggregate([("place", "first")])["place_first"].to_numpy()
    return trials if len(kept) == len(trials) else trials.take(pa.array(np.sort(kept)))


def named(trials: pa.Table) -> pa.Table:
    """Say in the columns what tells configurations apart: ``task`` and ``model`` become names of settings, ``lr``, ``hyperparameters`` and ``options`` (JSON)
    what stands in the contender. Rows are then of one configuration where these columns and ``method`` are equal, and only there."""
    texts = trials["configuration"].combine_chunks().dictionary_encode()
    distinct = texts.dictionary.to_pylist()
    settings, contenders = setting_names(distinct), [json.loads(text)["contender"] for text in distinct]
    columns: dict[str, list[Any]] = {
        "task": [settings[text][0] for text in distinct],
        "model": [settings[text][1] for text in distinct],
    }
    columns["lr"] = [contender.get("lr") for contender in contenders]
    columns["hyperparameters"] = [canonical(contender.get("hyperparameters", {})) for contender in contenders]
    columns["options"] = [
        canonical({k: v for k, v in contender.items() if k not in OF_COLUMNS}) for contender in contenders
    ]
    return _with(
        trials,
        {name: pa.array(of, trials.schema.field(name).type).take(texts.indices) for name, of in columns.items()},
    )


#: What of a contender has a column of its own.
OF_COLUMNS = ("method", "lr", "hyperparameters")


def _with(trials: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        trials = trials.set_column(trials.schema.get_field_index(name), name, column)
    return trials
