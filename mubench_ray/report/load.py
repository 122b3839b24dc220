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

from mubench_ray.report.columns import Column, describe_columns
from mubench_ray.results.schema import TRIAL_COLUMNS
from mubench_ray.results.store import Store

#: Statuses whose metrics count: a trial stopped by its budget was evaluated like any other.
USABLE = ("ok", "truncated")


#: More rows of ``examples`` than this are not read: what is shown of them is a help, not worth minutes.
EXAMPLES = 30_000_000


@dataclass(frozen=True)
class Results:
    """A results folder as the report sees it."""

    root: Path
    manifest: dict[str, Any]
    trials: pa.Table
    columns: list[Column]
    titles: dict[str, str] = field(default_factory=dict)

    @cached_property
    def usable(self) -> np.ndarray:
        """Mask over the trials: those whose metrics count."""
        return pc.is_in(self.trials["status"], pa.array(USABLE)).to_numpy(zero_copy_only=False).astype(bool)

    @property
    def metrics(self) -> list[str]:
        """Names of the metric columns, shown ones first."""
        return [column.name for column in self.columns]

    def values(self, name: str) -> np.ndarray:
        """A metric of every trial as float64 (N,); NaN where the trial has none or is not usable."""
        values = self.trials[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)
        return np.where(self.usable & np.isfinite(values), values, np.nan)

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
            filter=pc.equal(pc.field("split").cast(pa.string()), "forget"),
        )
        owner = pc.index_in(read["trial_id"], self.trials["trial_id"].combine_chunks())
        read = read.append_column("owner", owner).drop_columns(["trial_id"])
        read = read.filter(pc.and_(pc.is_valid(read["owner"]), pc.is_finite(read["confidence"])))
        read = read.filter(pa.array(self.usable[read["owner"].to_numpy(zero_copy_only=False)]))
        return read if len(read) else None

    def read(self, table: str, columns: list[str] | None = None, filter: Any = None) -> pa.Table:
        """``curves`` or ``examples``."""
        return Store(self.root).read(table, columns=columns, filter=filter)


def load(root: str | Path) -> Results:
    """Everything but curves and examples; raises ResultsError where the folder is none or of another version."""
    store = Store(root)
    manifest = store.check(must_exist=True)
    trials = with_tuned(with_subset(with_all_columns(store.read("trials"))), read_json(root, "search/chosen.json"))
    fixed = {column.name for column in TRIAL_COLUMNS}
    present = [
        column.name for column in trials.schema if column.name not in fixed and pa.types.is_floating(column.type)
    ]
    return Results(
        Path(root), manifest, trials, describe_columns(present, read_json(root, "metrics.json")), method_titles(root)
    )


def with_all_columns(trials: pa.Table) -> pa.Table:
    """Add the fixed columns that a folder of an earlier release lacks, empty."""
    for column in TRIAL_COLUMNS:
        if column.name not in trials.column_names:
            trials = trials.append_column(column.with_nullable(True), pa.nulls(len(trials), column.type))
    return trials


def with_subset(trials: pa.Table) -> pa.Table:
    """Name a task that was cut to n training examples ``task[n]``: it is another task for every comparison."""
    if not len(trials):
        return trials
    cut = pc.struct_field(pc.extract_regex(trials["trial"], r'"subset":\s*(?P<n>\d+)'), "n")
    labelled = pc.binary_join_element_wise(
        trials["task"], pc.binary_join_element_wise(pa.scalar("["), cut, pa.scalar("]"), ""), ""
    )
    position = trials.schema.get_field_index("task")
    return trials.set_column(position, trials.schema.field("task"), pc.coalesce(labelled, trials["task"]))


def with_tuned(trials: pa.Table, chosen: dict[str, Any]) -> pa.Table:
    """Where a search chose every configuration, a method with what was chosen for it is one contender on all cells: what was chosen is emptied here, and
    has a table of its own."""
    if not chosen.get("choices"):
        return trials
    for name, empty in (
        ("lr", pa.nulls(len(trials), pa.float64())),
        ("hyperparameters", pa.array(["{}"] * len(trials))),
    ):
        trials = trials.set_column(trials.schema.get_field_index(name), name, empty)
    return trials


def read_json(root: str | Path, name: str) -> dict[str, Any]:
    """A JSON object of the folder; empty where it is missing or damaged, since it only decorates."""
    try:
        content = json.loads((Path(root) / name).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def method_titles(root: str | Path) -> dict[str, str]:
    """Method names to titles, from ``methods.json`` where the folder has one ({name: {title}})."""
    content = read_json(root, "methods.json")
    return {
        name: str(entry["title"]) for name, entry in content.items() if isinstance(entry, dict) and entry.get("title")
    }
