"""Score a results folder with a metric that was added later: from what is stored, without training anything.

``score(root, name)`` computes a per-trial metric for every trial, or a group metric for every group of trials, and
writes ``scores/<name>.parquet``.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.errors import MubenchError, ResultsError, UnknownName, did_you_mean, one_line
from mubench_ray.metrics.base import METRICS, compute_one, is_observed, reads
from mubench_ray.metrics.group import GROUP_METRICS, GroupMetric, compute_group, count_models
from mubench_ray.metrics.jackknife import intervals
from mubench_ray.results.configurations import setting_names
from mubench_ray.results.folder import Folder
from mubench_ray.results.observations import arrays_of
from mubench_ray.results.schema import TRIAL_COLUMNS, table_of
from mubench_ray.results.store import Store
from mubench_ray.status import USABLE, is_usable
from mubench_ray.trial import CONTROLS, canonical

SCORES = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # "value" of a per-trial metric
        pa.field("trial_id", pa.string()),  # null for a group of several
        pa.field(
            "configuration", pa.string()
        ),  # JSON: what the group's trials have in common of theirs; null in older folders
        pa.field("task", pa.string(), nullable=False),
        pa.field("model", pa.string()),  # null where the group ranges over it, as the next ones
        pa.field("method", pa.string(), nullable=False),
        pa.field("ratio", pa.float64()),
        pa.field("seed", pa.int64()),
        pa.field("training_seed", pa.int64()),
        pa.field("forget_seed", pa.int64()),
        pa.field("sampler", pa.string()),
        pa.field("lr", pa.float64()),
        pa.field("hyperparameters", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),  # of its 95% interval, of a group of several
        pa.field("high", pa.float64()),
        pa.field("interval", pa.string()),  # what it is over, or why there is none; null in older folders, as its ends
        pa.field("trials", pa.int64(), nullable=False),
        pa.field("oracles", pa.int64()),
        pa.field("sampled", pa.bool_(), nullable=False),  # D_R was read from its stored sample, not in full
        pa.field("reason", pa.string()),  # why there is no value
    ]
)

#: What of a score its trials say themselves.
OF_TRIALS = [column.name for column in TRIAL_COLUMNS if column.name in SCORES.names]
STACKED = re.compile(r"(?P<oracle>oracle_)?(?P<split>forget|retain|validation|test)_confidence")


def score(
    root: str | Path, metric_name: str, options: Mapping[str, Any] | None = None, with_intervals: bool = True
) -> pa.Table:
    """Compute a registered metric on a results folder, write it to ``scores/<metric>.parquet`` and return it.

    One row a trial, or a group of trials, and part of the metric; a row without a value says why. ``options`` are a
    group metric's own, such as ``margin``, and its intervals may be left out. Raises UnknownName, and ResultsError for what is no results folder.
    """
    folder = Folder(Store(root))
    if metric_name in METRICS:
        if options:
            raise ResultsError(f"Metric {metric_name!r} is computed a trial at a time and has no options.")
        name, rows = METRICS.canonical(metric_name), list(score_trials(folder, METRICS.canonical(metric_name)))
    elif metric_name in GROUP_METRICS:
        name = GROUP_METRICS.canonical(metric_name)
        rows = list(score_groups(folder, GROUP_METRICS.get(name), options or {}, with_intervals))
    else:
        raise UnknownName(
            f"Unknown metric {metric_name!r}. {did_you_mean(metric_name, [*METRICS.names(), *GROUP_METRICS.names()])}"
        )
    table = table_of(rows, SCORES)
    folder.store.write_table("scores", f"{name}.parquet", table)
    return table


def read_scores(store: Store) -> list[dict[str, Any]]:
    """Every row of ``scores/*.parquet``; raises ResultsError naming a file that cannot be read."""
    rows: list[dict[str, Any]] = []
    for path in sorted((store.root / "scores").glob("*.parquet")):
        try:
            rows += pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise ResultsError(f"{path} cannot be read ({error}); remove it and score the folder again.") from error
    return rows


def named_scores(scores: Iterable[dict[str, Any]], configurations: Iterable[str]) -> list[dict[str, Any]]:
    """The rows with their task and model named as ``repetitions.named`` names those of the trials, whose configurations are given."""
    names = setting_names(set(configurations))
    return [
        row | (dict(zip(("task", "model"), names[row["configuration"]])) if row.get("configuration") in names else {})
        for row in scores
    ]


# One trial at a time


def score_trials(folder: Folder, name: str) -> Iterator[dict[str, Any]]:
    """One row a planned trial."""
    needs = reads(name)
    for row in folder.rows:
        value, reason, sampled = None, None, False
        if is_usable(row):
            observed = observe_trial(folder, row, needs)
            try:
                value = compute_one(name, observed, {})
            except Exception as error:  # noqa: BLE001 - of a metric of somebody's own: its reason, and the others have theirs
                reason = one_line(error)
            sampled = any("retain_" in need.removeprefix("retrain_") for need in needs) and folder.is_sampled(row)
            if value is None and reason is None:
                missing = sorted(need for need in needs if not is_observed(observed.get(need)))
                reason = f"not observed: {', '.join(missing)}" if missing else "undefined for these values"
        else:
            reason = f"the trial's status is {row['status']}" + (f": {row['error']}" if row["status"] in USABLE else "")
        yield describe([row], ()) | {
            "metric": name,
            "part": "value",
            "value": value,
            "oracles": None,
            "low": None,
            "high": None,
            "interval": None,
            "sampled": sampled,
            "reason": reason,
        }


def observe_trial(folder: Folder, row: Mapping[str, Any], needs: set[str]) -> dict[str, Any]:
    """The trial's arrays, its retrain's as ``retrain_...``, and what ``needs`` asks of its row (costs, ratio, seed)."""
    observed = folder.examples(row["trial_id"]) | arrays_of(folder.store, row["trial_id"], folder.shown)
    if any(need.startswith("retrain_") and need not in row for need in needs):
        retrain = folder.retrain(row)
        if retrain is not None:
            observed |= {f"retrain_{name}": values for name, values in folder.examples(retrain["trial_id"]).items()}
    # Never a column that is a metric: where arrays are missing, its stored value is no substitute for them.
    observed |= {need: row[need] for need in needs if need in row and need not in observed and need not in METRICS}
    return observed


# Many trials at a time


def score_groups(
    folder: Folder, metric: GroupMetric, options: Mapping[str, Any], with_intervals: bool = True
) -> Iterator[dict[str, Any]]:
    """One row a group and part; of groups over seeds with an interval."""
    needs_oracles = any(need.startswith("oracle_") for need in metric.needs)
    for rows in groups(folder, metric.over):
        rows, oracles = with_oracles(folder, rows, metric.over) if needs_oracles else (rows, [])
        observed = observe_group(folder, rows, oracles, metric)
        try:
            values, reason = compute_group(metric.name, observed, options)
        except MubenchError:  # of an option
            raise
        except Exception as error:  # noqa: BLE001 - of a metric of somebody's own: its reason, and the other groups have theirs
            values, reason = dict.fromkeys(metric.parts), one_line(error)
        sampled = any("retain_confidence" in need for need in metric.needs) and any(map(folder.is_sampled, rows))
        described = describe(rows, metric.over) | {
            "metric": metric.name,
            "oracles": count_models(observed)["oracles"] if needs_oracles else None,
            "sampled": sampled,
        }
        found = intervals(metric, observed, values, options) if with_intervals and "seed" in metric.over else {}
        for part, value in values.items():
            why = None if value is not None else reason or "undefined for these values"
            of = found.get(part)
            ends = {"low": of and of.low, "high": of and of.high, "interval": of and of.over}
            yield described | {"part": part, "value": value, **ends, "reason": why}


def groups(folder: Folder, over: tuple[str, ...]) -> Iterator[list[Mapping[str, Any]]]:
    """The finished trials that are alike but for ``over``; every network once."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in folder.finished:
        found[f"{row['trial_id']} {row['configuration']}" if not over else canonical(identity(row, over))].append(row)
    for rows in found.values():
        yield distinct(folder, rows) if "seed" in over else rows


def identity(row: Mapping[str, Any], over: tuple[str, ...]) -> dict[str, Any]:
    """What trials of one group have in common: their configuration and, as far as the group does not range over them, ratio and seeds."""
    content: dict[str, Any] = common(row, over)
    if "ratio" not in over:
        content |= {name: row[name] for name in ("ratio", "after")}
    if "seed" not in over:
        content |= {name: row[name] for name in ("seed", "training_seed", "forget_seed")}
    return content


def common(row: Mapping[str, Any], over: tuple[str, ...]) -> dict[str, Any]:
    """The ``setting`` and ``contender`` of a row, without its model where a group ranges over models."""
    content = json.loads(row["configuration"])
    if "model" in over:
        # Each model has its own recipe of training.
        of_model = ("model", "pretrained", "original_checkpoint", "training")
        setting = {name: value for name, value in content["setting"].items() if name not in of_model}
        kept = {
            name: value for name, value in setting.pop("versions", {}).items() if name not in ("model", "checkpoint")
        }
        content["setting"] = setting | ({"versions": kept} if kept else {})
    return content


def distinct(folder: Folder, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows without repetition: the unlearning seed of a control changes nothing, its rows are one network."""

    def network(row: Mapping[str, Any]) -> str:
        if row["method"] in CONTROLS:
            trial = folder.of(row)
            return f"{row['method']} {(trial.retrain or trial.original).id}"
        return row["trial_id"]

    return list({network(row): row for row in rows}.values())


Rows = list[Mapping[str, Any]]


def with_oracles(folder: Folder, rows: Rows, over: tuple[str, ...]) -> tuple[Rows, Rows]:
    """The group's trials and the retrains they are compared with.

    Retrains themselves are compared half against half, the noise floor of the metric: those of every second training seed
    against the others, or every second one where all have the same seed; independent models may be paired into folds as
    one likes.
    """

    def recipe(row: Mapping[str, Any]) -> str:
        content = identity(row, over)
        return canonical({name: content.get(name) for name in ("setting", "ratio", "forget_seed")})

    if rows[0]["method"] == "retrain":
        several = len({row["training_seed"] for row in rows}) > 1
        units = [row["training_seed"] if several else row["trial_id"] for row in rows]
        place = {unit: number for number, unit in enumerate(sorted(set(units)))}
        sides: tuple[Rows, Rows] = ([], [])
        for row, unit in zip(rows, units):
            sides[place[unit] % 2].append(dict(row, training_seed=place[unit] // 2))
        return sides
    wanted = recipe(rows[0])
    return rows, [row for row in folder.retrains.values() if recipe(row) == wanted]


def observe_group(folder: Folder, rows: Rows, oracles: Rows, metric: GroupMetric) -> dict[str, Any]:
    """The stacked arrays that ``metric`` needs, as far as the folder holds them."""
    observed: dict[str, Any] = {
        "trial_fold": column(rows, "training_seed"),
        "oracle_fold": column(oracles, "training_seed"),
    }
    for need in metric.needs:
        stacked = STACKED.fullmatch(need)
        if need in observed:
            continue
        if stacked:
            own, others = stack(folder, rows, oracles, stacked["split"])
            observed |= {f"{stacked['split']}_confidence": own, f"oracle_{stacked['split']}_confidence": others}
        elif need.startswith("curve_"):
            observed[need] = curves(folder, rows, need.removeprefix("curve_"))
        elif all(need in row for row in rows):
            observed[need] = column(rows, need)
        elif need.startswith("original_"):
            observed[need] = matched(rows, need.removeprefix("original_"), folder.original)
        elif need.startswith("retrain_"):
            observed[need] = matched(rows, need.removeprefix("retrain_"), folder.retrain)
    return observed


def column(rows: Rows, name: str) -> np.ndarray:
    """A column of the rows, NaN for null, (T,)."""
    return np.array([row[name] if row.get(name) is not None else np.nan for row in rows], float)


def matched(rows: Rows, name: str, control: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]) -> np.ndarray:
    """A column of each row's control, (T,)."""
    return column([control(row) or {} for row in rows], name)


def stack(folder: Folder, rows: Rows, oracles: Rows, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Confidences (T, N) and (R, N) of all examples of a split that any model has, aligned by index, else NaN.

    A retrain never saw its D_F, nor, in a pool of shadow models, the other half of the training set: both count as its
    observations of ``forget``.
    """
    own, others = ([columns_of(folder, row, [split]) for row in side] for side in (rows, oracles))
    indices = np.unique(np.concatenate([index for index, _ in (*own, *others)])) if own or others else np.empty(0)
    if split == "forget":
        others = [columns_of(folder, row, ["forget", "unseen"]) for row in oracles]
    return aligned(own, indices), aligned(others, indices)


def columns_of(folder: Folder, row: Mapping[str, Any], splits: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Index and confidence of a model's examples of some splits, one after the other."""
    examples, nothing = folder.examples(row["trial_id"]), np.empty(0)
    found = [
        np.concatenate([examples.get(f"{split}_{name}", nothing) for split in splits])
        for name in ("index", "confidence")
    ]
    return found[0], found[1]


def aligned(parts: list[tuple[np.ndarray, np.ndarray]], indices: np.ndarray) -> np.ndarray:
    """A row a model and a column an index (sorted), NaN where the model has no such example."""
    table = np.full((len(parts), len(indices)), np.nan)
    for line, (index, confidence) in zip(table, parts):
        known = np.isin(index, indices)
        line[np.searchsorted(indices, index[known])] = confidence[known]
    return table


def curves(folder: Folder, rows: Rows, name: str) -> np.ndarray | None:
    """A column of every trial's curve, (T, P), padded with NaN; None where no trial has a curve with it."""
    points = []
    for row in rows:
        curve = folder.curve(row["trial_id"])
        points.append(curve[name].to_numpy() if curve is not None and name in curve.column_names else np.empty(0))
    length = max(map(len, points), default=0)
    return (
        np.array([np.pad(np.asarray(each, float), (0, length - len(each)), constant_values=np.nan) for each in points])
        if length
        else None
    )


def describe(rows: Rows, over: tuple[str, ...]) -> dict[str, Any]:
    """The columns that say which trials a score is of; null for what differs between them."""
    first = rows[0]
    described = {name: first[name] if len({row[name] for row in rows}) == 1 else None for name in OF_TRIALS}
    described["hyperparameters"] = described["hyperparameters"] or "{}"
    if "seed" in over:
        described |= {"seed": None, "training_seed": None}
    described["configuration"] = first["configuration"] if not over else canonical(common(first, over))
    return described | {"trial_id": first["trial_id"] if len(rows) == 1 else None, "trials": len(rows)}
