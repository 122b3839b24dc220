"""Read a results folder for the report: Arrow tables and the JSON files beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mubench_ray.metrics.base import timed_columns
from mubench_ray.report.columns import ACCURACIES, COLUMN, Column, described
from mubench_ray.report.costs import charged, on_several_terms, unbilled, uncompared, with_costs
from mubench_ray.report.counted import with_set_sizes
from mubench_ray.report.grouping import numbers, positions
from mubench_ray.results.marks import read_verdicts
from mubench_ray.results.plans import missing
from mubench_ray.results.repetitions import countable, named, read_trials
from mubench_ray.results.schema import TRIAL_COLUMNS
from mubench_ray.results.store import Store

#: More rows of ``examples`` than this are not read: what is shown of them is a help, not worth minutes.
EXAMPLES = 30_000_000


@dataclass(frozen=True)
class Results:
    """A results folder as the report sees it; ``columns`` are the metrics that its trials have, and what is reported of
    them beside."""

    root: Path
    manifest: dict[str, Any]
    trials: pa.Table
    columns: list[Column]
    titles: dict[str, str] = field(default_factory=dict)
    #: What is left out, and why.
    refused: list[str] = field(default_factory=list)
    #: Planned trials without a row.
    missing: int = 0

    @cached_property
    def usable(self) -> np.ndarray:
        """Mask over the trials: those whose metrics count (``status.is_usable``)."""
        return countable(self.trials)

    @cached_property
    def column(self) -> dict[str, Column]:
        """``columns`` by name."""
        return {column.name: column for column in self.columns}

    @property
    def metrics(self) -> list[str]:
        """Names of the metric columns of ``trials``, shown ones first."""
        return [column.name for column in self.columns if not column.of and column.name != "seconds"]

    @cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        """What the controls say of each metric, from ``controls.json`` where the folder has one."""
        return read_verdicts(Store(self.root))

    def values(self, name: str) -> np.ndarray:
        """A metric of every trial as float64 (N,); NaN where the trial has none, is not usable or was measured by an older version of the metric than
        others were, and for times where the terms differ on which they were spent."""
        values = numbers(self.trials, name)
        counts = self.usable & np.isfinite(values) & ~self.outdated.get(name, np.zeros(len(values), bool))
        return np.where(counts & ~self.on_several_terms if self.column[name].timed else counts, values, np.nan)

    @cached_property
    def outdated(self) -> dict[str, np.ndarray]:
        """For each metric of which rows have several versions, a mask over the trials: those of an older version than the latest."""
        return outdated(self.trials)

    @cached_property
    def on_several_terms(self) -> np.ndarray:
        """Mask over the trials: those of a configuration and ratio that ran on more than one kind of device, in several precisions or ways of execution. A
        mean of their seconds says nothing."""
        return on_several_terms(self.trials, self.usable)

    @cached_property
    def forget_examples(self) -> pa.Table | None:
        """The stored examples of D_F of every usable trial: ``owner`` (the trial's place), ``index``, ``label``,
        ``correct``, ``confidence``; None where there are none, or too many (EXAMPLES) to be worth the wait."""
        store = Store(self.root)
        files = store.files("examples")
        if not files or not len(self.trials) or sum(pq.read_metadata(file).num_rows for file in files) > EXAMPLES:
            return None
        read = store.read(
            "examples",
            columns=["trial_id", "index", "label", "correct", "confidence"],
            filter=pc.field("split").cast(pa.string()) == "forget",
        )
        owner = positions(read["trial_id"], self.trials["trial_id"])
        known = (owner >= 0) & np.isfinite(read["confidence"].to_numpy(zero_copy_only=False).astype(float))
        known[known] = self.usable[owner[known]]
        read = read.append_column("owner", pa.array(owner)).drop_columns(["trial_id"]).filter(pa.array(known))
        return read if len(read) else None


def load(root: str | Path) -> Results:
    """Everything but curves and examples; raises ResultsError where the folder is none or of another version."""
    store = Store(root)
    manifest = store.check(must_exist=True)
    trials, refused = read_trials(store)
    chosen = charged(store)
    trials = with_costs(with_set_sizes(named(trials), store), chosen)
    refused += [*uncompared(trials), *unbilled(chosen)]
    for name, older in outdated(trials).items():
        refused.append(
            f"{name}: {int(older.sum())} rows hold it as an older version of the metric gave it, and are no part of its means. "
            f"`mubench score DIR --metric {name}` computes it for all of them from what is stored."
        )
    fixed = {column.name for column in TRIAL_COLUMNS}
    present = [
        column.name for column in trials.schema if column.name not in fixed and pa.types.is_floating(column.type)
    ]
    rare = {name for name in present if name in COLUMN and COLUMN[name].rare}
    present = [name for name in present if name not in rare or trials[name].null_count < len(trials)]
    reported = [c.difference for c in ACCURACIES if c.name in present and c.difference in COLUMN]
    declared = store.read_object("metrics.json")
    columns = described([*present, *reported, "seconds"], declared, timed_columns(declared))
    return Results(Path(root), manifest, trials, columns, method_titles(store), refused, missing(store))


def outdated(trials: pa.Table) -> dict[str, np.ndarray]:
    """Masks (N,), by metric: rows of an older version of it than other rows have."""
    texts = trials["metric_versions"].combine_chunks().dictionary_encode(null_encoding="encode")
    stored = [json.loads(text or "{}") for text in texts.dictionary.to_pylist()]
    found = {}
    for name in sorted({name for versions in stored for name in versions}):
        versions = np.array([each.get(name, 1) for each in stored])[texts.indices.to_numpy(zero_copy_only=False)]
        if name in trials.column_names and versions.min() != versions.max():
            found[name] = versions < versions.max()
    return found


def method_titles(store: Store) -> dict[str, str]:
    """Method names to titles, from ``methods.json`` where the folder has one ({name: {title}})."""
    entries = store.read_object("methods.json").items()
    return {name: str(entry["title"]) for name, entry in entries if isinstance(entry, dict) and entry.get("title")}
