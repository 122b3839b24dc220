"""The noise floor: how far two retrains that differ only in their seed lie from each other. No method can be told from
a retrain below it."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from mubench_ray.report.columns import ACCURACIES, COLUMN, RELATIVE
from mubench_ray.report.grouping import Groups, group_by
from mubench_ray.report.load import Results
from mubench_ray.report.statistics import mean_absolute_difference
from mubench_ray.report.summary import CELL, REFERENCE, retrain_values
from mubench_ray.results.store import Store

#: Distances to the own retrain that are differences of an accuracy.
GAPS = {f"{split}_gap": f"{split}_accuracy" for split in ("forget", "retain", "validation")}


def noise_floor(results: Results) -> pa.Table:
    """A row a (task, model, ratio): ``retrains`` (distinct training seeds and forget draws) and for each metric
    ``<metric>``, the mean |x_i - x_j| over pairs of retrains of the same forget set, null with fewer than two.

    A measure that compares with the retrain itself is that of one retrain against another, over ordered pairs, where it
    follows from their accuracies, as RetDev and the gaps do: what a perfect method of another seed would score. Of others
    (of weights, of relearning) it is null: a retrain's own value, 0, says nothing.
    """
    trials = results.trials
    declared = Store(results.root).read_object("metrics.json")
    compare = {name for name, of in declared.items() if isinstance(of, dict) and of.get("self_referential") is True}
    once = group_by(trials, REFERENCE)
    cells = group_by(trials, CELL)
    draws = group_by(trials, [*CELL, "forget_seed"])
    retrained = {name: _retrains(results, name, once) for name in results.metrics if name not in RELATIVE}
    known = np.zeros(len(once), bool)
    for values in retrained.values():
        known |= np.isfinite(values)
    first = trials.take(pa.array(cells.first))
    columns: dict[str, object] = {name: first[name] for name in CELL}
    columns["retrains"] = Groups(cells.code[once.first], cells.first).count(known)
    members = Groups(draws.code[once.first], draws.first).members()
    owner = Groups(cells.code[draws.first], cells.first)
    for name, values in retrained.items():
        if name == "retention_deviation":
            parts = [retrained[column.name] for column in ACCURACIES if column.name in retrained]
            spread = [mean_of_known(retention_deviations([of[rows] for of in parts])) for rows in members]
        elif name in compare:
            accuracy = retrained.get(GAPS.get(name, ""))
            spread = [math.nan if accuracy is None else mean_absolute_difference(accuracy[rows]) for rows in members]
        else:
            spread = [mean_absolute_difference(values[rows]) for rows in members]
        columns[name] = pa.array(owner.mean(np.array(spread, float)), from_pandas=True)
    return pa.table(columns).sort_by([(name, "ascending") for name in CELL])


def _retrains(results: Results, metric: str, once: Groups) -> np.ndarray:
    if metric in COLUMN and COLUMN[metric].retention:
        return retrain_values(results, metric)[once.first]
    is_retrain = results.trials["method"].to_numpy(zero_copy_only=False) == "retrain"
    return once.mean(np.where(is_retrain, results.values(metric), np.nan))


def retention_deviations(accuracies: list[np.ndarray]) -> np.ndarray:
    """RetDev (n, n) of n retrains, each held to every other as its own, by their ``accuracies`` on the splits, (n,) each:
    sum over splits of |A_i / A_j - 1|. NaN on the diagonal, where a retrain lacks one or got nothing right, or with a
    split missing."""
    table = np.stack(accuracies)
    known = (np.isfinite(table) & (table > 0)).all(axis=0) & (len(table) == len(ACCURACIES))
    table = np.where(known, table, np.nan)
    found = np.abs(table[:, :, None] / table[:, None, :] - 1).sum(axis=0)
    np.fill_diagonal(found, np.nan)
    return found


def mean_of_known(values: np.ndarray) -> float:
    """Mean of the finite ``values``; NaN where there are none."""
    there = np.isfinite(values)
    return float(values[there].mean()) if there.any() else float("nan")
