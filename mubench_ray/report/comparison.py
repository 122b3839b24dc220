"""Which contenders can be told apart: paired tests over common seeds, corrected for their number, as letters.

Two contenders without a common letter differ at the 5% level, jointly over all pairs of the (task, model, ratio); with
a common letter they were not told apart.
"""

from __future__ import annotations

import string

import numpy as np
import pyarrow as pa
from scipy.special import stdtr

from mubench_ray.report.grouping import Groups, group_by
from mubench_ray.report.load import Results
from mubench_ray.report.summary import CELL, LINE
from mubench_ray.trial import CONTROLS

ALPHA = 0.05
#: Fewer common seeds than this decide nothing.
SEEDS = 3
#: More contenders than this are not compared: letters would no longer be read, and Holm's correction would leave
#: nothing.
CONTENDERS = 40


def paired_p_values(values: np.ndarray) -> np.ndarray:
    """Two-sided p values (C, C) of the paired t test between the rows of ``values`` (C, S), a column a seed; NaN
    entries are absent.

    1 on the diagonal and where fewer than 3 seeds are common; 1 where all differences are 0, 0 where they are all the
    same other number.
    """
    difference = values[:, None, :] - values[None, :, :]
    there = np.isfinite(difference)
    n = there.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, difference, 0).sum(axis=2) / n
        variance = np.where(there, (difference - mean[:, :, None]) ** 2, 0).sum(axis=2) / (n - 1)
        t = np.where(mean == 0, 0.0, np.abs(mean) / np.sqrt(variance / n))
        p = 2 * stdtr(np.maximum(n - 1, 1), -t)
    return np.where((n >= SEEDS) & np.isfinite(p), p, 1.0)


def holm(p: np.ndarray) -> np.ndarray:
    """Mask of the rejected among p values (m,), family-wise error at most ALPHA (Holm 1979, Scandinavian Journal of
    Statistics 6)."""
    order = np.argsort(p, kind="stable")
    passes = p[order] <= ALPHA / (len(p) - np.arange(len(p)))
    rejected = np.zeros(len(p), bool)
    rejected[order[: len(p) if passes.all() else int(np.argmin(passes))]] = True
    return rejected


def letters(values: np.ndarray) -> list[str]:
    """Letters of each row of ``values`` (C, S), ``a`` first for the first row; Piepho's insert-and-absorb (2004, J.
    Comp. Graph. Stat. 13)."""
    size = len(values)
    if size > CONTENDERS:
        return [""] * size
    left, right = np.triu_indices(size, 1)
    if not len(left):
        return ["a"] * size
    rejected = holm(paired_p_values(values)[left, right])
    columns = [frozenset(range(size))]
    for i, j in zip(left[rejected].tolist(), right[rejected].tolist(), strict=True):
        split = [
            part for column in columns for part in ([column - {i}, column - {j}] if {i, j} <= column else [column])
        ]
        columns = [
            part
            for k, part in enumerate(split)
            if not any(part < other or (part == other and k > m) for m, other in enumerate(split))
        ]
    columns.sort(key=sorted)
    names = string.ascii_lowercase + string.ascii_uppercase
    return ["".join(names[k % len(names)] for k, column in enumerate(columns) if row in column) for row in range(size)]


def group_letters(results: Results, metric: str, higher: bool) -> pa.Table:
    """``LINE`` and ``group``: the letters of every contender by ``metric``, ``a`` for the best; empty
    for controls and without common seeds.

    A seed is a training seed (all below it averaged), or an unlearning seed where only one model was trained.
    """
    trials, values = results.trials, results.values(metric)
    configurations = group_by(trials, LINE)
    first = trials.take(pa.array(configurations.first)).select(LINE)
    contends = ~np.isin(first["method"].to_numpy(zero_copy_only=False), CONTROLS)
    made = np.full(len(configurations), "", dtype=object)
    units = {name: group_by(trials, [name]).code for name in ("training_seed", "seed")}
    means = configurations.mean(values)
    for rows in group_by(trials, CELL).members():
        rows = rows[contends[configurations.code[rows]] & np.isfinite(values[rows])]
        unit = units["training_seed"][rows]
        unit = np.unique(unit if len(np.unique(unit)) > 1 else units["seed"][rows], return_inverse=True)[1]
        members, place = np.unique(configurations.code[rows], return_inverse=True)
        if len(members) < 2 or unit.max() + 1 < SEEDS:
            continue
        flat = Groups(place * (unit.max() + 1) + unit, np.arange(len(members) * (unit.max() + 1)))
        table = flat.mean(values[rows]).reshape(len(members), -1)
        best_first = np.argsort(-means[members] if higher else means[members], kind="stable")
        made[members[best_first]] = letters(table[best_first])
    return first.append_column("group", pa.array(made.tolist(), pa.string()))
