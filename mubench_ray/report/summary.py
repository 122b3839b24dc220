"""One row a configuration and ratio: seeds, statuses, and every metric with its doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mubench_ray.metrics.selection import OBJECTIVES
from mubench_ray.report.columns import ACCURACIES, COLUMN, Column
from mubench_ray.report.counted import distinct_examples
from mubench_ray.report.edges import at_edges
from mubench_ray.report.grouping import Groups, SeedLevels, encode, group_by
from mubench_ray.report.load import Results
from mubench_ray.results.configurations import contender_names
from mubench_ray.results.marks import (
    UNCHECKED,
    UNTRUSTED,
    Verdicts,
    on_selection_seeds,
    selection_seeds,
    unequal_terms,
)
from mubench_ray.status import STATUSES
from mubench_ray.trial import CONTROLS, EXTERNAL

# As ``repetitions.named`` writes them, ``task`` and ``model`` are the setting, and CONTENDER is the contender, of ``Trial.configuration``.
CELL = ["task", "model", "ratio"]
CONTENDER = ["method", "lr", "hyperparameters", "options"]
#: The rows of one line are repetitions of each other.
LINE = [*CELL, *CONTENDER, "after"]
LEADING = ["task", "model", "method", "ratio", "lr", "hyperparameters", "options", "after"]
REFERENCE = [*CELL, "training_seed", "forget_seed"]


def summarise(results: Results) -> pa.Table:
    """The leaderboard.

    Columns: ``task, model, method, ratio, lr, hyperparameters, options, after``; ``label`` (the method, told apart by
    what differs), ``control``, ``uses_validation``, ``unequal_terms``, ``on_selection_seeds`` (rows whose seed its method
    was tuned on), ``untrusted`` and ``unchecked`` (measures that the controls of its task, model and ratio do not bear out,
    and cannot check), ``not_told_apart`` (what is said first where original and retrain are not told apart by their loss on
    D_F); ``n`` (usable trials), ``planned`` (rows) and a count a status;
    ``interval_over``, the level of seeds that intervals resample; then for every metric and every difference to the
    retrain its mean, ``_sd`` (over trials), ``_low`` and ``_high`` (95% interval of the mean); ``at_edge``, what of it
    lies at the edge of what was tried.
    """
    trials, groups = results.trials, group_by(results.trials, LINE)
    first = trials.take(pa.array(groups.first))
    columns: dict[str, Any] = {name: first[name] for name in LEADING}
    columns["label"] = contender_labels(results).take(pa.array(groups.first))
    columns["control"] = controls(first)
    columns["uses_validation"] = first["uses_validation"]
    columns["on_selection_seeds"] = groups.count(selected(trials))
    columns["unequal_terms"] = pa.array(
        [unequal_terms(text) for text in first["configuration"].to_pylist()], pa.bool_()
    )
    columns |= doubts(results, first)
    columns["n"] = groups.count(results.usable)
    columns["planned"] = groups.count()
    status = trials["status"].to_numpy(zero_copy_only=False)
    columns |= {name: groups.count(status == name) for name in STATUSES}
    levels = SeedLevels(groups, *(encode(trials[name]) for name in ("training_seed", "forget_seed", "seed")))
    columns["interval_over"] = levels.level
    columns |= estimates(groups, levels, values := measured(results), results.column, trials)
    means = {name: groups.mean(values[name]) for name in OBJECTIVES if name in values}
    columns["at_edge"] = at_edges(results, first, means)
    return pa.table(columns).sort_by([(name, "ascending") for name in LINE])


def selected(trials: pa.Table) -> np.ndarray:
    """Whether each of the trials has a seed that its method was tuned on, (N,)."""
    columns = trials.select(["configuration", "seed", "training_seed"])
    texts = columns["configuration"].combine_chunks().dictionary_encode()
    tuned_on = [selection_seeds(text) for text in texts.dictionary.to_pylist()]
    if not any(tuned_on):
        return np.zeros(len(trials), bool)
    return np.array([on_selection_seeds(row) for row in columns.to_pylist()], bool)


def controls(trials: pa.Table) -> pa.Array:
    """Whether each of the trials is a control's, (N,)."""
    return pa.array(np.isin(trials["method"].to_numpy(zero_copy_only=False).astype(str), CONTROLS))


def doubts(results: Results, rows: pa.Table) -> dict[str, pa.Array]:
    """What the controls say in the task, model and ratio of each of the rows (N,): ``untrusted`` and ``unchecked`` measures,
    and whether there is anything to forget."""
    verdicts = Verdicts(results.verdicts)
    cells = list(zip(*(rows[name].to_pylist() for name in CELL), strict=True))
    told = {}
    for name, mark in (("untrusted", UNTRUSTED), ("unchecked", UNCHECKED)):
        of = {cell: ", ".join(verdicts.measures(mark, *cell)) for cell in set(cells)}
        told[name] = pa.array([of[cell] for cell in cells], pa.string())
    return told | {"not_told_apart": pa.array([verdicts.untold.get(cell, "") for cell in cells], pa.string())}


def ordered(board: pa.Table) -> list[dict[str, Any]]:
    """The leaderboard's rows by (task, model, ratio); in each the retrain, the original, the rest by name, and last what was unlearned
    elsewhere."""

    def place(row: dict[str, Any]) -> tuple:
        return (
            row["task"],
            row["model"],
            row["ratio"],
            not row["control"],
            row["method"] == EXTERNAL,
            row["method"] != "retrain",
            row["label"],
        )

    return sorted(board.to_pylist(), key=place)


def measured(results: Results) -> dict[str, np.ndarray]:
    """Every metric of every trial, and the differences of accuracies to the trial's own retrain; float64 (N,) each."""
    values = {name: results.values(name) for name in results.metrics}
    for column in ACCURACIES:
        if column.name in values:
            values[column.difference] = values[column.name] - retrain_values(results, column.name)
    return values


def retrain_values(results: Results, metric: str) -> np.ndarray:
    """For each trial (N,) the ``metric`` of the retrain with its task, model, ratio, forget set and training seed.

    A trial minus this is a paired difference: the spread between training seeds cancels, and over common seeds its mean
    is the difference to the mean of the retrain ensemble. Taken from the retrain's own row; where the suite did not run
    that control, an accuracy follows from the retention ratio, RR = RA(f_U) / RA(f_R).
    """
    groups = group_by(results.trials, REFERENCE)
    values = results.values(metric)
    is_retrain = results.trials["method"].to_numpy(zero_copy_only=False) == "retrain"
    reference = groups.mean(np.where(is_retrain, values, np.nan))
    ratio = COLUMN[metric].retention if metric in COLUMN else ""
    if ratio in results.metrics:
        retention = results.values(ratio)
        with np.errstate(invalid="ignore", divide="ignore"):
            implied = groups.mean(np.where(retention > 0, values / retention, np.nan))
        reference = np.where(np.isfinite(reference), reference, implied)
    return reference[groups.code]


def estimates(
    groups: Groups, levels: SeedLevels, values: dict[str, np.ndarray], known: Mapping[str, Column], trials: pa.Table
) -> dict[str, pa.Array]:
    """Mean, standard deviation and interval of every value a group of the ``trials``; an interval ends where the metric's
    own range does.

    What is estimated: the mean over trainings, forget draws and unlearning seeds and, of a share of examples that are
    right, over the examples of which the set is a sample. All other values, and the paired differences to the retrain
    among them, are of the examples as they are.
    """
    columns = {}
    for name, of_trials in values.items():
        column = known.get(name)
        behind = distinct_examples(groups, of_trials, column.counts, trials) if column and column.counts else None
        mean, low, high = levels.estimate(of_trials, behind)
        inside = (column.low, column.high) if column else (-np.inf, np.inf)
        edges = {
            "": mean,
            "_sd": groups.deviation(of_trials),
            "_low": np.clip(low, *inside),
            "_high": np.clip(high, *inside),
        }
        columns |= {name + suffix: pa.array(edge, from_pandas=True) for suffix, edge in edges.items()}
    return columns


def contender_labels(results: Results) -> pa.Array:
    """A name for each trial's contender (N,): the method's title, with what differs between the method's contenders."""
    texts = results.trials["configuration"].combine_chunks().dictionary_encode()
    distinct = texts.dictionary.to_pylist()
    names = contender_names(distinct, results.titles)
    labels = pa.array([names[text] for text in distinct], pa.string()).take(texts.indices)
    # Of two sequences that come to one ratio by other steps.
    several = group_by(results.trials, ["configuration", "ratio"]).mixed(results.trials["after"])
    if not several.any():
        return labels
    pairs = zip(labels.to_pylist(), results.trials["after"].to_pylist(), several.tolist(), strict=True)
    return pa.array([f"{label} · after {after}" if told else label for label, after, told in pairs], pa.string())
