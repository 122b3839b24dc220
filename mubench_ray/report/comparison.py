"""Which contenders can be told apart, from each other, as letters, and from a retrain, by what they did on the same
blocks, the pairs of a training seed and a forget draw.

Two contenders without a common letter differ at the 5% level, jointly over all pairs of the (task, model, ratio); with
a common letter they were not told apart.
"""

from __future__ import annotations

import string

import numpy as np
import pyarrow as pa

from mubench_ray.report.columns import ACCURACIES
from mubench_ray.report.contrasts import BLOCKS, told_apart, worse_than
from mubench_ray.report.grouping import Groups, group_by
from mubench_ray.report.load import Results
from mubench_ray.report.noise import retention_deviations
from mubench_ray.report.summary import CELL, LINE, REFERENCE, retrain_values
from mubench_ray.trial import UNRANKED

#: More contenders than this are not compared: letters would no longer be read.
CONTENDERS = 40


def letters(apart: np.ndarray) -> list[str]:
    """Letters of each of C rows, the first of them ``a``, from the mask (C, C) of those told apart; Piepho's
    insert-and-absorb (2004, J. Comp. Graph. Stat. 13)."""
    size = len(apart)
    columns = [frozenset(range(size))]
    for i, j in np.argwhere(np.triu(apart)).tolist():
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


def compare(results: Results, metric: str, higher: bool) -> pa.Table:
    """``LINE``; ``group``, the letters of every contender by ``metric``, ``a`` for the best, empty for controls and
    for what has fewer than BLOCKS blocks; ``told_from_retrain``, whether it lies on the worse side of a retrain, null
    for controls and with too few blocks of both.

    Unlearning seeds are averaged; where there is one training seed and one draw, they are the blocks.
    """
    trials, values = results.trials, results.values(metric)
    configurations = group_by(trials, LINE)
    first = trials.take(pa.array(configurations.first)).select(LINE)
    contends = ~np.isin(first["method"].to_numpy(zero_copy_only=False), UNRANKED)
    groups = np.full(len(configurations), "", dtype=object)
    told: list[bool | None] = [None] * len(configurations)
    codes = {name: group_by(trials, [name]).code for name in ("training_seed", "forget_seed", "seed")}
    sign = -1.0 if higher else 1.0
    reference = sign * retrain_reference(results, metric)
    for rows in group_by(trials, CELL).members():
        rows = rows[contends[configurations.code[rows]] & np.isfinite(values[rows])]
        members, place = np.unique(configurations.code[rows], return_inverse=True)
        block, units = blocks(*(codes[name][rows] for name in ("training_seed", "forget_seed", "seed")))
        width = block.max(initial=-1) + 1
        if not 1 <= len(members) <= CONTENDERS or width < BLOCKS:
            continue
        flat = Groups(place * width + block, np.arange(len(members) * width))
        table = flat.mean(sign * values[rows]).reshape(len(members), width)
        best_first = np.argsort(np.nanmean(table, axis=1), kind="stable")
        best_first = best_first[np.isfinite(table[best_first]).sum(axis=1) >= BLOCKS]
        if len(best_first) > 1:
            groups[members[best_first]] = letters(told_apart(table[best_first], units))
        if not units:  # one retrain alone says nothing of retrains
            continue
        retrained = Groups(block, np.arange(width)).mean(reference[rows])
        common = np.isfinite(table - retrained).sum(axis=1)
        for member, apart, n in zip(members, worse_than(table, retrained, units), common, strict=True):
            told[member] = bool(apart) if n >= BLOCKS else None
    first = first.append_column("group", pa.array(groups.tolist(), pa.string()))
    return first.append_column("told_from_retrain", pa.array(told, pa.bool_()))


def blocks(training: np.ndarray, draw: np.ndarray, unlearning: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The block 0..B-1 of each of the rows (N,), and for each of training seed and draw which of them a block has, (B,):
    blocks of one of them may move together."""
    pairs, first, block = np.unique(np.stack([training, draw]), axis=1, return_index=True, return_inverse=True)[:3]
    if pairs.shape[1] == 1:
        return np.unique(unlearning, return_inverse=True)[1], []
    return block.reshape(-1), [training[first], draw[first]]


def retrain_reference(results: Results, metric: str) -> np.ndarray:
    """For each trial (N,) the ``metric`` of a retrain with its training seed and forget set; NaN where there is none.

    By ``retention_deviation``, the distance to that very retrain, the retrain's own is 0 by definition. There it is that of the
    other retrains of the same forget set, each taken as its unlearned model. Every retrain takes part in the distances of
    all, so that these vary by less than their mean does: given are the jackknife's pseudo-values of that mean
    (``pseudo_values``).
    """
    if metric != "retention_deviation":
        groups = group_by(results.trials, REFERENCE)
        is_retrain = results.trials["method"].to_numpy(zero_copy_only=False) == "retrain"
        return groups.mean(np.where(is_retrain, results.values(metric), np.nan))[groups.code]
    once = group_by(results.trials, REFERENCE)
    found = np.full(len(once), np.nan)
    if not all(column.name in results.metrics for column in ACCURACIES):
        return found[once.code]
    parts = [retrain_values(results, column.name)[once.first] for column in ACCURACIES]
    draws = group_by(results.trials.take(pa.array(once.first)), [*CELL, "forget_seed"])
    for members in draws.members():
        distance = retention_deviations([of[members] for of in parts])
        known = np.isfinite(distance).any(axis=0)
        found[members[known]] = pseudo_values(distance[np.ix_(known, known)])
    return found[once.code]


def pseudo_values(distance: np.ndarray) -> np.ndarray:
    """What each of n >= 3 models adds to the mean of ``distance`` (n, n) over pairs of two, the diagonal left out: n times
    that mean less n - 1 times the mean without it (Tukey's jackknife), (n,). Their mean is the mean itself, and their
    spread over sqrt(n) its standard error. NaN of fewer.

    Means over the others of each alone, as if independent, told 7 to 8% of contenders of the retrain's own law from it.
    """
    n = len(distance)
    if n < BLOCKS:
        return np.full(n, np.nan)
    off = np.where(np.eye(n, dtype=bool), 0.0, distance)
    return ((off.sum(axis=0) + off.sum(axis=1)) - off.sum() / (n - 1)) / (n - 2)
