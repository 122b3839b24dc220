"""Metrics that were computed after the run (``scores/*.parquet``): attacks, capacity, scaling, transfer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.report.grouping import Groups, SeedLevels, encode, group_by, positions
from mubench_ray.report.load import Results
from mubench_ray.report.marks import ALL, Marks
from mubench_ray.report.summary import contender_labels, estimates
from mubench_ray.report.texts import NOTHING
from mubench_ray.results.configurations import spoken
from mubench_ray.results.score import common
from mubench_ray.trial import canonical

#: Rows shown of each metric.
SHOWN = 400
#: The metric that measures what a certificate guarantees, beside which it stands.
MEASURED = "forgetting_quality"


def scored(results: Results, marks: Marks) -> dict[str, tuple[list[str], list[list[str]]]]:
    """For each added metric its headers and rows of texts: method, task, model, ratio, lr, then a column a part with
    the mean value and its 95% interval: of a group of trials the one that was scored with it, of single trials the one
    over their seeds.

    Of rows without any value only the reasons are kept, one row each; files that cannot be read are passed over.
    """
    found, names = {}, group_names(results)
    for path in sorted((results.root / "scores").glob("*.parquet")):
        try:
            found[path.stem] = _rows(path.stem, pq.read_table(path).to_pylist(), names, marks, results)
        except (pa.ArrowInvalid, KeyError, OSError):
            continue
    return {name: table for name, table in found.items() if table[1]}


def group_names(results: Results) -> dict[str, tuple[str, str, str]]:
    """The names of task, model and contender of a group of trials, by what its trials have in common of their configuration."""
    first = group_by(results.trials, ["configuration"]).first
    rows = results.trials.take(pa.array(first)).select(["configuration", "task", "model"]).to_pylist()
    found = {}
    for row, label in zip(rows, contender_labels(results).take(pa.array(first)).to_pylist(), strict=True):
        found[canonical(common(row, ("model",)))] = row["task"], ALL, label
        found[row["configuration"]] = row["task"], row["model"], label
    return found


def _rows(
    metric: str, scores: list[dict[str, Any]], names: dict[str, tuple[str, str, str]], marks: Marks, results: Results
) -> tuple[list[str], list[list[str]]]:
    values: dict[tuple, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    reasons: dict[str, set[str]] = defaultdict(set)
    for row in scores:
        own = row["task"], row["model"] or ALL, row["method"]
        task, model, label = names.get(row.get("configuration") or "", own)
        if row["value"] is None:
            reasons[row["reason"] or "no value"].add(label)
        else:
            key = (task, model, row["ratio"], label, row["lr"], row.get("configuration") or row["hyperparameters"])
            values[key][row["part"]].append(row)
    certified = certificates(results)
    parts = list(dict.fromkeys(part for of in values.values() for part in of))
    rows = []
    keys = sorted(values, key=lambda key: tuple((part is not None, part) for part in key))[:SHOWN]
    means = {part: estimated(results, metric, [values[key].get(part, []) for key in keys]) for part in parts}
    for place, key in enumerate(keys):
        task, model, ratio, label, lr, _ = key
        cell = task, model, ALL if ratio is None else ratio
        share = ALL if ratio is None else f"{spoken(ratio)} %"
        where = [task, model, share + marks.cell(*cell), NOTHING if lr is None else spoken(lr)]
        texts = []
        for part in parts:
            mean, low, high = means[part][place]
            mark = marks.measure(metric if part == "value" else f"{metric} {part}", *cell)
            interval = "" if None in (low, high) else f" [{low:.3g}, {high:.3g}]"
            texts.append(NOTHING if mean is None else f"{mean:.4g}{mark}{interval}")
        rows.append([marks.name(label, *cell), *where, *texts])
    if not rows:
        rows = [[", ".join(sorted(methods)), reason] for reason, methods in sorted(reasons.items())]
        return ["method", "no value, because"], rows
    headers = ["method", "task", "model", "ratio", "lr", *parts]
    claimed = [certified.get((key[5], key[2])) for key in keys] if metric == MEASURED else []
    if any(epsilon is not None for epsilon in claimed):
        headers.append("certified epsilon")
        rows = [[*row, NOTHING if of is None else f"{of:.4g}"] for row, of in zip(rows, claimed, strict=True)]
    return headers, rows


def certificates(results: Results) -> dict[tuple[str, float], float]:
    """The epsilon that a contender's method guarantees of every one of its usable trials, by configuration and ratio."""
    if (name := "certified_epsilon") not in results.column:
        return {}
    values, groups = results.values(name), group_by(results.trials, ["configuration", "ratio"])
    whole = groups.count(np.isfinite(values)) == groups.count(results.usable)
    first = results.trials.take(pa.array(groups.first)).select(["configuration", "ratio"]).to_pylist()
    told = zip(first, groups.mean(values).tolist(), whole.tolist(), strict=True)
    return {(row["configuration"], row["ratio"]): mean for row, mean, all_of_it in told if all_of_it and mean == mean}


def estimated(results: Results, metric: str, groups: list[list[dict[str, Any]]]) -> list[tuple[float | None, ...]]:
    """Mean, low and high of each group of rows of one part, None where there is none: the row's own where there is one,
    and of the values of several trials the mean with the interval over their seeds."""
    found: list[tuple[float | None, ...]] = [(None, None, None)] * len(groups)
    several = []
    for place, rows in enumerate(groups):
        if len(rows) == 1:
            found[place] = rows[0]["value"], rows[0].get("low"), rows[0].get("high")
        elif rows:
            found[place] = sum(row["value"] for row in rows) / len(rows), None, None
            several.append(place)
    members = [(place, row) for place in several for row in groups[place]]
    if not members:
        return found
    trials = positions(pa.array([row.get("trial_id") for _, row in members], pa.string()), results.trials["trial_id"])
    code = np.array([several.index(place) for place, _ in members])
    column = results.column.get(metric)
    # A share of a stored sample of D_R is of fewer examples than the row says.
    unsure = [bool(column and column.counts and row.get("sampled")) for _, row in members]
    known = ~np.isin(code, code[(trials < 0) | np.array(unsure)])
    if known.any():
        part = results.trials.take(pa.array(trials[known]))
        kept, first, code = np.unique(code[known], return_index=True, return_inverse=True)
        grouped = Groups(code, first)
        seeds = SeedLevels(grouped, *(encode(part[name]) for name in ("training_seed", "forget_seed", "seed")))
        values = np.array([row["value"] for _, row in members], float)[known]
        columns = estimates(grouped, seeds, {metric: values}, results.column, part)
        edges = zip(*(columns[metric + edge].to_pylist() for edge in ("", "_low", "_high")), strict=True)
        for place, of in zip(kept.tolist(), edges, strict=True):
            found[several[place]] = of
    return found
