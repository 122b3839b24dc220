"""What a suite asked to be looked at beside what every trial is: the table ``observations``, and its numbers beside those of the trials.

A record is kept by (trial id, observation, version, options). Of an observation that lies there in several versions or with several options only one kind of
record is ever shown, the one that the folder's plan asks for: no mean mixes two.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from mubench_ray.results.plans import read_plan
from mubench_ray.results.store import Store
from mubench_ray.status import Status

#: What tells kinds of records of one observation apart.
KIND = ("version", "options")


def with_observations(trials: pa.Table, store: Store) -> tuple[pa.Table, list[str]]:
    """The trials with the metrics that observations gave in their columns; a line for each observation of which some records are not shown."""
    records = store.read(
        "observations", columns=["trial_id", "observation", *KIND, "status", "values", "metric_versions"]
    )
    if not len(records):
        return trials, []
    by_name: dict[str, dict[tuple[str, ...], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in records.to_pylist():
        if record["status"] == Status.OK:
            by_name[record["observation"]][tuple(record[name] for name in KIND)].append(record)
    wanted, told = asked_for(store), []
    values: dict[str, dict[str, float]] = defaultdict(dict)
    versions: dict[str, dict[str, int]] = defaultdict(dict)
    for name, kinds in sorted(by_name.items()):
        shown = wanted.get(name) if wanted.get(name) in kinds else next(iter(kinds)) if len(kinds) == 1 else None
        others = sum(len(each) for kind, each in kinds.items() if kind != shown)
        if others:
            ways = described(kinds)
            which = "none" if shown is None else ways[shown]
            told.append(
                f"{name} was observed in {len(kinds)} ways ({'; '.join(sorted(ways.values()))}): {which} is shown, {others} records are not. The "
                "last suite that was run in the folder says which."
            )
        for record in kinds[shown] if shown is not None else ():
            found = json.loads(record["values"])
            values[record["trial_id"]] |= found
            own = json.loads(record["metric_versions"] or "{}")
            versions[record["trial_id"]] |= {metric: own[metric] for metric in found if metric in own}
    return filled(trials, values, versions), told


def load_results(root: str | Path, table: str = "trials") -> pa.Table:
    """A table of a results folder: ``trials`` (a row a trial, with the metrics of its observations), ``curves``, ``examples`` or ``observations``."""
    store = Store(root)
    content = store.read(table)
    return with_observations(content, store)[0] if table == "trials" else content


def asked_for(store: Store) -> dict[str, tuple[str, ...]]:
    """Version and options of each observation as the folder's plan asks for it, a later suite before an earlier one."""
    entries = (read_plan(store) or {}).get("suites") or []
    asked = [each for entry in entries for each in entry.get("observations") or []]
    return {each["name"]: tuple(each[name] for name in KIND) for each in asked}


def standing(store: Store) -> str | None:
    """How many of the observations that the folder's plan asks for are there, in one line; None where it asks for none."""
    wanted = asked_for(store)
    if not wanted:
        return None
    records = store.read("observations", columns=["observation", *KIND, "status"]).to_pylist()
    told = []
    for name, kind in sorted(wanted.items()):
        own = [
            each["status"]
            for each in records
            if each["observation"] == name and tuple(each[key] for key in KIND) == kind
        ]
        failed = len(own) - own.count(Status.OK)
        told.append(f"{name} of {own.count('ok')} trials" + (f" ({failed} failed)" if failed else ""))
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


def shown_of(store: Store, trial_id: str) -> list[dict[str, Any]]:
    """The records of one trial that are shown, whole."""
    records = store.read("observations", filter=ds.field("trial_id") == trial_id).to_pylist()
    wanted, kinds = asked_for(store), defaultdict(set)
    for record in records:
        record["kind"] = tuple(record[name] for name in KIND)
        kinds[record["observation"]].add(record["kind"])
    return [
        record
        for record in records
        if record["status"] == Status.OK
        and (len(kinds[record["observation"]]) == 1 or wanted.get(record["observation"]) == record["kind"])
    ]


def arrays_of(store: Store, trial_id: str) -> dict[str, np.ndarray]:
    """The arrays that the shown observations of a trial gave, by name."""
    return {name: values for record in shown_of(store, trial_id) for name, values in arrays_in(record).items()}


def arrays_in(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a record, in their shapes."""
    return {each["name"]: np.array(each["values"], float).reshape(each["shape"]) for each in record["arrays"]}
