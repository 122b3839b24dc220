"""What a suite asked to be looked at beside what every trial is: the table ``observations``, and its numbers beside those of the trials.

A record is kept by (trial id, observation, version, options). Of an observation that lies there in several versions or with several options only one kind of
record is ever shown, the one that the folder's plan asks for: no mean mixes two.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from mubench_ray.metrics.base import timed_columns
from mubench_ray.results.plans import read_plan
from mubench_ray.results.store import Store
from mubench_ray.status import Status

#: What tells kinds of records of one observation apart.
KIND = ("version", "options")
#: Two runs of a trial may differ by rounding.
ROUNDING = 1e-6


def with_observations(trials: pa.Table, store: Store) -> tuple[pa.Table, list[str]]:
    """The trials with the metrics that observations gave in their columns; a line for each observation of which some records are not shown."""
    records = usable_records(store)
    shown, told = kinds_shown(records, store)
    contradicted = contradictions(records, shown, store)
    values: dict[str, dict[str, float]] = defaultdict(dict)
    versions: dict[str, dict[str, int]] = defaultdict(dict)
    for record in records:
        trial_id, name = record["trial_id"], record["observation"]
        if shown.get(name) == kind_of(record) and (trial_id, name) not in contradicted:
            numbers, given = json.loads(record["values"]), json.loads(record["metric_versions"] or "{}")
            values[trial_id] |= numbers
            versions[trial_id] |= {metric: given[metric] for metric in numbers if metric in given}
    told += [f"{fault}: neither is shown. Remove the file of one of the two." for fault in contradicted.values()]
    return filled(trials, values, versions), told


def usable_records(store: Store) -> list[dict[str, Any]]:
    """The records of observations that could be made, without their arrays."""
    columns = ["trial_id", "observation", *KIND, "status", "values", "metric_versions"]
    records = store.read("observations", columns=columns).to_pylist()
    return [record for record in records if record["status"] == Status.OK]


def kind_of(record: dict[str, Any]) -> tuple[str, ...]:
    """Version and options of a record, or of what a plan asks for."""
    return tuple(record[name] for name in KIND)


def kinds_shown(records: Iterable[dict[str, Any]], store: Store) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Which kind of each observation's records is shown, of all trials the same: the one that the plan asks for or, where nothing is there of that, the only
    one; and a line for each observation of which others are there."""
    by_name: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for record in records:
        by_name[record["observation"]][kind_of(record)] += 1
    wanted, shown, told = asked_for(store), {}, []
    for name, kinds in sorted(by_name.items()):
        kind = wanted.get(name) if wanted.get(name) in kinds else next(iter(kinds)) if len(kinds) == 1 else None
        if kind is not None:
            shown[name] = kind
        if others := kinds.total() - (0 if kind is None else kinds[kind]):
            ways = described(kinds)
            which = "none" if kind is None else ways[kind]
            told.append(
                f"{name} was observed in {len(kinds)} ways ({'; '.join(sorted(ways.values()))}): {which} is shown, {others} records are not. The "
                "last suite that was run in the folder says which."
            )
    return shown, told


def contradictions(
    records: Iterable[dict[str, Any]], shown: Mapping[str, tuple[str, ...]], store: Store
) -> dict[tuple[str, str], str]:
    """By (trial id, observation): that records of what is shown say different numbers, in words."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for record in records:
        if record["status"] == Status.OK and shown.get(record["observation"]) == kind_of(record):
            found[record["trial_id"], record["observation"]].append(json.loads(record["values"]))
    several = {key: numbers for key, numbers in sorted(found.items()) if len(numbers) > 1}
    timed = timed_columns(store.read_object("metrics.json")) if several else ()
    faults = {key: contradiction(numbers, timed) for key, numbers in several.items()}
    return {
        (trial_id, name): f"{name} of trial {trial_id} is there twice, with {fault}"
        for (trial_id, name), fault in faults.items()
        if fault
    }


def contradiction(found: list[dict[str, float]], timed: Container[str]) -> str | None:
    """The first metric of which records of one trial and kind say different numbers, with both; None where they agree."""
    for one, other in combinations(found, 2):
        for name in sorted(one.keys() & other.keys()):
            if name not in timed and differ(one[name], other[name]):
                return f"{name} {one[name]:.6g} and {other[name]:.6g}"
    return None


def differ(one: float | None, other: float | None) -> bool:
    """Whether two runs of a trial say different numbers: both are there, and they are not the same but for rounding; a NaN is like a NaN."""
    if one is None or other is None or (math.isnan(one) and math.isnan(other)):
        return False
    return not math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)


def load_results(root: str | Path, table: str = "trials") -> pa.Table:
    """A table of a results folder: ``trials`` (a row a trial, with the metrics of its observations), ``curves``, ``examples`` or ``observations``."""
    store = Store(root)
    content = store.read(table)
    return with_observations(content, store)[0] if table == "trials" else content


def asked_for(store: Store) -> dict[str, tuple[str, ...]]:
    """Version and options of each observation as the folder's plan asks for it, a later suite before an earlier one."""
    entries = (read_plan(store) or {}).get("suites") or []
    asked = [each for entry in entries for each in entry.get("observations") or []]
    return {each["name"]: kind_of(each) for each in asked}


def standing(store: Store) -> str | None:
    """How many of the observations that the folder's plan asks for are there, in one line; None where it asks for none."""
    wanted = asked_for(store)
    if not wanted:
        return None
    records = store.read("observations", columns=["observation", *KIND, "status"]).to_pylist()
    told = []
    for name, kind in sorted(wanted.items()):
        own = [each["status"] for each in records if each["observation"] == name and kind_of(each) == kind]
        made = own.count(Status.OK)
        told.append(f"{name} of {made} trials" + (f" ({len(own) - made} failed)" if made < len(own) else ""))
    return "observed: " + ", ".join(told)


def described(kinds: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Kinds of records in words: their options and, where they are of several, their versions."""
    kinds = list(kinds)
    several = len({version for version, _ in kinds}) > 1

    def words(version: str, options: str) -> str:
        told = ", ".join(f"{name} {value}" for name, value in json.loads(options).items()) or "defaults"
        return f"{told}, version {version}" if several else told

    return {kind: words(*kind) for kind in kinds}


def filled(trials: pa.Table, values: dict[str, dict[str, float]], versions: dict[str, dict[str, int]]) -> pa.Table:
    """The trials with these values of metrics, by trial id, in place of what their columns hold."""
    ids = trials["trial_id"].to_pylist()
    for metric in sorted({name for found in values.values() for name in found}):
        known = trials[metric].to_pylist() if metric in trials.column_names else [None] * len(ids)
        column = pa.array([values.get(name, {}).get(metric, was) for name, was in zip(ids, known)], pa.float64())
        if metric in trials.column_names:
            trials = trials.set_column(trials.schema.get_field_index(metric), metric, column)
        else:
            trials = trials.append_column(metric, column)
    if any(versions.values()) and "metric_versions" in trials.column_names:
        place = trials.schema.get_field_index("metric_versions")
        was = [json.loads(text or "{}") for text in trials["metric_versions"].to_pylist()]
        now = [json.dumps(old | versions.get(name, {}), sort_keys=True) for name, old in zip(ids, was)]
        trials = trials.set_column(place, "metric_versions", pa.array(now, pa.string()))
    return trials


def shown_of(store: Store, trial_id: str, shown: Mapping[str, tuple[str, ...]] | None = None) -> list[dict[str, Any]]:
    """The records of one trial that are shown, whole, each once and none that another contradicts. ``shown``: the kinds (``kinds_shown``), where they are
    known."""
    shown = kinds_shown(usable_records(store), store)[0] if shown is None else shown
    records = store.read("observations", filter=ds.field("trial_id") == trial_id).to_pylist()
    own = [r for r in records if r["status"] == Status.OK and shown.get(r["observation"]) == kind_of(r)]
    wrong = contradictions(own, shown, store)
    return list({r["observation"]: r for r in own if (trial_id, r["observation"]) not in wrong}.values())


def arrays_of(store: Store, trial_id: str, shown: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, np.ndarray]:
    """The arrays that the shown observations of a trial gave, by name."""
    return {name: values for record in shown_of(store, trial_id, shown) for name, values in arrays_in(record).items()}


def arrays_in(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a record, in their shapes."""
    return {each["name"]: np.array(each["values"], float).reshape(each["shape"]) for each in record["arrays"]}
