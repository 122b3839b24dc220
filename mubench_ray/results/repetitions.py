"""The rows of a results folder as everything that takes means over them sees them: each with its configuration, every repetition once.

``named`` says in words what tells configurations apart, for whoever groups by columns.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.compute import call_function

from mubench_ray.metrics.base import timed_columns
from mubench_ray.results.configurations import configuration, setting_names, tuned
from mubench_ray.results.observations import differ, with_observations
from mubench_ray.results.plans import of_plan, read_plan
from mubench_ray.results.schema import TRIAL_COLUMNS
from mubench_ray.results.store import Store
from mubench_ray.status import is_usable
from mubench_ray.trial import CONTROLS, canonical, renamed


def read_trials(store: Store) -> tuple[pa.Table, list[str]]:
    """The trials of a folder: every column of this version, ``configuration`` filled in, each repetition once; and a line for all that is left out: rows that
    no suite of the folder plans, cells of which a trial has two results, and rows of an earlier version."""
    trials, unplanned = without_unplanned(configured(with_all_columns(store.read("trials")), store), store)
    timed = timed_columns(store.read_object("metrics.json"))
    trials, refused = without_contradictions(of_every_suite(trials, store), timed)
    trials, outdated = without_superseded(once_each(trials))
    trials, unseen = with_observations(trials, store)
    return trials, unplanned + refused + outdated + unseen


def without_unplanned(trials: pa.Table, store: Store) -> tuple[pa.Table, list[str]]:
    """The rows ``of_plan``; a line for each task and model of which others are there."""
    kept = of_plan(trials, store)
    if len(kept) == len(trials):
        return trials, []
    others = (
        trials.filter(~pc.field("trial_id").isin(kept["trial_id"].combine_chunks()))
        .select(["task", "model", "method"])
        .to_pylist()
    )
    methods: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in others:
        methods[row["task"], row["model"]][row["method"]] += 1
    told = [
        f"{task}, {model}: {count.total()} rows are left out, which are of no suite that was run into this folder, or no longer "
        f"({', '.join(f'{method} {number}' for method, number in sorted(count.items()))}). Run their suite here, which trains nothing anew, or remove them."
        for (task, model), count in sorted(methods.items())
    ]
    return kept, told


def without_contradictions(trials: pa.Table, timed: set[str]) -> tuple[pa.Table, list[str]]:
    """The rows without those of cells in which an id stands twice with different numbers; a line for each such id. A row
    without a result contradicts nothing, nor do the ``timed`` columns."""
    counted = trials["trial_id"].value_counts()
    twice = counted.field("values").filter(pa.array(counted.field("counts").to_numpy() > 1))
    if not len(twice):
        return trials, []
    numbers = [field.name for field in trials.schema if pa.types.is_floating(field.type) and field.name not in timed]
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in trials.filter(pc.field("trial_id").isin(twice)).to_pylist():
        if is_usable(row):
            found[row["trial_id"]].append(row)
    refused, cells, names = [], set(), setting_names(set(trials["configuration"].to_pylist()))
    for trial_id, rows in found.items():
        fault = next((fault for pair in combinations(rows, 2) if (fault := difference(*pair, numbers))), None)
        if fault is not None:
            cell = f"{', '.join(names[rows[0]['configuration']])}, {rows[0]['ratio']:g} %"
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
    """The first of the ``numbers`` that both rows of one trial have and in which they differ by more than rounding; None where they are the same."""
    for name in numbers:
        if differ(row[name], other[name]):
            both = [f"{each[name]} ({each['device'] or 'unknown device'})" for each in (row, other)]
            return f"{name} {' and '.join(both)}"
    return None


def with_all_columns(trials: pa.Table) -> pa.Table:
    """Add the fixed columns that a folder of an earlier release lacks, empty."""
    for column in TRIAL_COLUMNS:
        if column.name not in trials.column_names:
            trials = trials.append_column(column.with_nullable(True), pa.nulls(len(trials), column.type))
    return trials


def configured(trials: pa.Table, store: Store) -> pa.Table:
    """Fill the column ``configuration`` where rows of an earlier release have none; what its search chose stands in the folder."""
    mended = {text: as_today(text) for text in trials["configuration"].unique().to_pylist()}
    if any(text != old for old, text in mended.items()):
        found = [mended[text] for text in trials["configuration"].to_pylist()]
        trials = _with(trials, {"configuration": pa.array(found, pa.string())})
    rows = trials.to_pylist() if trials["configuration"].null_count else []
    if not rows:
        return trials
    chosen, suite = store.read_object("search/chosen.json"), store.read_object("suite.json")
    found = [row["configuration"] or tuned(configuration(row), row, chosen, suite) for row in rows]
    return _with(trials, {"configuration": pa.array(found, pa.string())})


def as_today(text: str | None) -> str | None:
    """A configuration as it is written today: without the observations, which were a part of it once, and with ``compute`` where it said ``precision``."""
    if text is None or ('"probes":' not in text and '"precision":' not in text):
        return text
    content = json.loads(text)
    content["setting"].pop("probes", None)
    for part, options in ((content["setting"], "training"), (content["contender"], "unlearning")):
        if options in part:
            part[options] = renamed(part[options])
    return canonical(content)


def of_every_suite(trials: pa.Table, store: Store) -> pa.Table:
    """The rows, and those that another suite of the folder's plan counts as of another configuration once more with that one."""
    entries = (read_plan(store) or {}).get("suites") or []
    parts = [trials]
    for also in [entry["also"] for entry in entries if entry.get("also")]:
        shared = trials.filter(pc.field("trial_id").isin(sorted(also)))
        ours = [also[name] for name in shared["trial_id"].to_pylist()]
        parts.append(_with(shared, {"configuration": pa.array(ours, pa.string())}))
    return pa.concat_tables(parts, promote_options="default") if len(parts) > 1 else trials


#: How a stored trial says that a loop computes in bfloat16; in earlier releases it was its ``precision``.
BF16 = '"(compute|precision)":"bf16"'


def terms(trials: pa.Table) -> pa.ChunkedArray:
    """On what terms the seconds of each row were spent, as one text (``trials.rows.told``): only those of equal ones have a mean. Null where the device is
    not known."""
    device = trials["device"]
    half = _matching(trials["trial"], rf'"unlearning":{{[^}}]*{BF16}')
    # Of rows of an earlier release: nothing but eager was there, and a CPU has no TF32.
    precision = call_function("if_else", [half, "bf16", "fp32"])
    of_cpu = call_function("if_else", [call_function("equal", [device, "cpu"]), precision, "unknown"])
    compute = call_function("coalesce", [trials["compute"], of_cpu])
    several = call_function("greater", [trials["workers"], 1])
    shared = call_function("binary_join_element_wise", [trials["workers"].cast(pa.string()), "workers", " "])
    workers = call_function("if_else", [several, call_function("binary_join_element_wise", [", ", shared, ""]), ""])
    named = [device, compute, pc.fill_null(trials["execution"], "eager"), ", "]
    return call_function(
        "binary_join_element_wise",
        [call_function("binary_join_element_wise", named), pc.fill_null(workers, ""), ""],
    )


def unlike_precision(trials: pa.Table) -> np.ndarray:
    """Mask (N,) of the trials that unlearned in another precision than their retrain was trained in."""
    trained = _matching(trials["trial"], rf'"half":(null|\d+),"training":{{[^}}]*{BF16}')
    unlearned = _matching(trials["trial"], rf'"unlearning":{{[^}}]*{BF16}')
    differ = pc.fill_null(call_function("xor", [trained, unlearned]), False).to_numpy(zero_copy_only=False)
    return differ.astype(bool) & (trials["method"].to_numpy(zero_copy_only=False) != "retrain")


def countable(trials: pa.Table) -> np.ndarray:
    """Mask (N,) of the trials whose metrics count (``status.is_usable``)."""
    return np.array([is_usable(row) for row in trials.select(["status", "error", "flos"]).to_pylist()], bool)


#: What tells rows of one configuration apart.
REPETITION = ["configuration", "ratio", "after", "seed", "training_seed", "forget_seed"]


def once_each(trials: pa.Table) -> pa.Table:
    """Of rows that repeat one another (a control that two suites with different budgets have both run, a trial that a later version made anew) the one
    that counts, and of those the latest: one repetition is one value, whoever ran it."""
    counted = trials.append_column("counts", pa.array(countable(trials)))
    by = [("counts", "descending"), ("finished_at", "descending"), ("trial_id", "ascending")]
    order = call_function("sort_indices", [counted], pc.SortOptions(sort_keys=by))
    control = _one_of(trials["method"], CONTROLS)
    trials = _with(trials, {"after": call_function("if_else", [control, "", trials["after"]])})
    places = trials.select(REPETITION).append_column("place", pa.array(np.arange(len(trials)))).take(order)
    kept = places.group_by(REPETITION, use_threads=False).aggregate([("place", "first")])["place_first"].to_numpy()
    return trials if len(kept) == len(trials) else trials.take(pa.array(np.sort(kept)))


def without_superseded(trials: pa.Table) -> tuple[pa.Table, list[str]]:
    """The rows without those that an earlier version of the method or the training loop made, where a later one made others of their configuration and ratio;
    a line for each such group in which something is then lacking."""
    if not call_function("any", [_matching(trials["trial"], r'"versions":\s*{"')]).as_py():
        return trials, []
    names = ["configuration", "ratio", "after"]
    groups: dict[tuple, list[int]] = defaultdict(list)
    for place, key in enumerate(zip(*(trials[name].to_pylist() for name in names), strict=True)):
        groups[key].append(place)
    versions = [_replaced_by_later(text) for text in trials["trial"].to_pylist()]
    gone: list[int] = []
    told = []
    for places in groups.values():
        latest = {
            name: max(versions[i].get(name, 1) for i in places) for name in {n for i in places for n in versions[i]}
        }
        older = [i for i in places if any(versions[i].get(name, 1) < version for name, version in latest.items())]
        if older:
            gone += older
            row = {name: trials[name][older[0]].as_py() for name in ("task", "model", "method", "ratio")}
            told.append(
                f"{row['task']}, {row['model']}, {row['method']}, {row['ratio']:g} %: {len(older)} of {len(places)} repetitions are left out, which an earlier "
                "version of the method or the training loop made. Run their suite again in this folder to have them by this one."
            )
    kept = np.setdiff1d(np.arange(len(trials)), gone)
    return (trials.take(pa.array(kept)), sorted(told)) if gone else (trials, [])


def _replaced_by_later(trial: str) -> dict[str, int]:
    """The versions of a trial that tell no configurations apart: those of its method, unless it is a plugin's, and of the training loop."""
    try:
        versions = json.loads(trial).get("versions") or {}
    except (ValueError, AttributeError):
        return {}
    return {
        name: v
        for name, v in versions.items()
        if name not in ("task", "model", "checkpoint", "sampler") and isinstance(v, int)
    }


def named(trials: pa.Table) -> pa.Table:
    """Say in the columns what tells configurations apart: ``task`` and ``model`` become names of settings, ``lr``, ``hyperparameters`` and ``options`` (JSON)
    what stands in the contender. Rows are then of one configuration where these columns and ``method`` are equal, and only there."""
    texts = trials["configuration"].combine_chunks().dictionary_encode()
    distinct = texts.dictionary.to_pylist()
    settings, contenders = setting_names(distinct), [json.loads(text)["contender"] for text in distinct]
    columns: dict[str, list[Any]] = {
        "task": [settings[text][0] for text in distinct],
        "model": [settings[text][1] for text in distinct],
        "lr": [each.get("lr") for each in contenders],
        "hyperparameters": [canonical(each.get("hyperparameters", {})) for each in contenders],
        "options": [canonical({k: v for k, v in each.items() if k not in OF_COLUMNS}) for each in contenders],
    }
    return _with(
        trials,
        {name: pa.array(of, trials.schema.field(name).type).take(texts.indices) for name, of in columns.items()},
    )


#: What of a contender has a column of its own.
OF_COLUMNS = ("method", "lr", "hyperparameters")


def _one_of(column: pa.ChunkedArray, values: Iterable[str]) -> pa.ChunkedArray:
    """Mask of the rows that have one of the values; False for null."""
    return call_function("is_in", [column], pc.SetLookupOptions(value_set=pa.array(values)))


def _matching(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Mask of the rows in whose text the pattern is found; null for null."""
    return call_function("match_substring_regex", [column], pc.MatchSubstringOptions(pattern))


def _with(trials: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        trials = trials.set_column(trials.schema.get_field_index(name), name, column)
    return trials
