"""The leaderboard over wider scopes: averaged over tasks, models or ratios, as MU-Bench's averaged figures are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.report.grouping import SeedLevels, combine, encode, group_by, position_within
from mubench_ray.report.load import Results
from mubench_ray.report.marks import ALL
from mubench_ray.report.summary import CELL, CONTENDER, LINE, contender_labels, controls, estimates
from mubench_ray.results.repetitions import terms


def scoped(results: Results, values: dict[str, np.ndarray], means: dict[str, np.ndarray] | None = None) -> pa.Table:
    """A row a scope and contender: ``task, model, ratio`` (text; ``all`` = averaged), ``label``, ``method``, ``lr``,
    ``control``, ``n``, ``terms`` (on what its seconds were spent; null where on several), each of ``values`` (one number a
    trial) with ``_sd``, ``_low``, ``_high``, and each of ``means`` without.

    An average first takes the mean over the scope's cells within each set of seeds, then treats those means as the
    values. It is given only for contenders with usable trials in every cell of the scope: a mean over the cells that
    happened to work would flatter what fails.
    """
    trials = results.trials
    cells = group_by(trials, CELL).code
    contenders = group_by(trials, CONTENDER)
    names = contender_labels(results)
    seeds = [encode(trials[name]) for name in ("training_seed", "forget_seed", "seed")]
    tables = []
    several = [len(trials[name].unique()) > 1 for name in CELL]
    for over in product(*((False, True) if more else (False,) for more in several)):
        kept = [name for name, averaged in zip(CELL, over, strict=True) if not averaged]
        scope = group_by(trials, kept) if kept else None
        scope_code = scope.code if scope else np.zeros(len(trials), np.int64)
        tables.append(_average(results, kept, scope_code, cells, contenders.code, seeds, values, means or {}, names))
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _average(
    results: Results,
    kept: list[str],
    scope: np.ndarray,
    cells: np.ndarray,
    contender: np.ndarray,
    seeds: list[np.ndarray],
    values: dict[str, np.ndarray],
    means: dict[str, np.ndarray],
    names: pa.Array,
) -> pa.Table:
    trials, usable = results.trials, results.usable
    wanted = position_within(scope, cells, int(scope.max(initial=-1)) + 1)[1]
    group, owner = combine(scope, contender)
    had = position_within(group[usable], cells[usable], len(owner))[1] if usable.any() else np.zeros(len(owner), int)
    complete = (had == wanted[owner]) | (wanted[owner] == 1)

    unit = group
    for seed in seeds:
        unit, _ = combine(unit, seed)
    whole = _complete_units(unit, cells, usable, wanted[scope])
    rows = np.flatnonzero(complete[group] & whole) if len(kept) < len(CELL) else np.arange(len(trials))
    part = trials.take(pa.array(rows))
    groups = group_by(part, LINE if len(kept) == len(CELL) else [*kept, *CONTENDER]) if len(rows) else None
    if groups is None:
        return pa.table({"task": pa.array([], pa.string())})
    first = part.take(pa.array(groups.first))
    ran = terms(part)
    several = groups.mixed(ran, usable[rows])
    # Seconds that were spent on two kinds of terms have no mean, whatever it is over.
    values = {name: np.where(several & results.column[name].timed, np.nan, of[rows]) for name, of in values.items()}
    levels = SeedLevels(groups, *(seed[rows] for seed in seeds))
    columns = {
        name: pc.cast(first[name], pa.string()) if name in kept else pa.array([ALL] * len(first)) for name in CELL
    }
    columns["label"] = names.take(pa.array(rows[groups.first]))
    columns["method"], columns["lr"] = first["method"], first["lr"]
    columns["control"] = controls(first)
    columns["n"] = pa.array(groups.count(usable[rows]))
    counting = np.flatnonzero(usable[rows] & ~several)
    place = np.full(len(groups), -1)
    place[groups.code[counting][::-1]] = counting[::-1]
    columns["terms"] = ran.take(pa.array(place, mask=place < 0))
    columns |= estimates(groups, levels, values, results.column, part)
    columns |= {name: pa.array(levels.mean(column[rows]), from_pandas=True) for name, column in means.items()}
    return pa.table(columns)


def _complete_units(unit: np.ndarray, cells: np.ndarray, usable: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mask of the rows whose contender and seeds have a usable trial in every cell of the scope."""
    if not usable.any():
        return np.zeros(len(unit), bool)
    had = np.zeros(int(unit.max()) + 1, int)
    count = position_within(unit[usable], cells[usable], len(had))[1]
    had[: len(count)] = count
    return had[unit] == wanted
