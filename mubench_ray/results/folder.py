"""A results folder opened for scoring: each trial with its controls, its stored examples and its curve."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pydantic import ValidationError

from mubench_ray.errors import ResultsError
from mubench_ray.results.compaction import file_of, read_table
from mubench_ray.results.observations import kinds_shown, usable_records
from mubench_ray.results.repetitions import read_trials
from mubench_ray.results.store import Store
from mubench_ray.status import is_usable
from mubench_ray.trial import ForgetSet, Trial


class Folder:
    """A results folder as metrics see it: trials with their controls, examples and curves."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = read_trials(store)[0].to_pylist()
        #: Which kind of every observation's records counts.
        self.shown = kinds_shown(usable_records(store), store)[0]
        self.trials = {row["trial_id"]: read_trial(row) for row in self.rows}
        self.finished = [row for row in self.rows if is_usable(row)]
        retrained = ((self.of(row).retrain, row) for row in self.finished if row["method"] == "retrain")
        self.retrains = {recipe.id: row for recipe, row in retrained if recipe is not None}
        self.originals = {self.of(row).original.id: row for row in self.finished if row["method"] == "original"}
        # One examples table has some 10^4 rows: keep those of a group and its oracles, not of a suite.
        self.examples = lru_cache(maxsize=128)(self._examples)
        self._curves: dict[str, pa.Table] | None = None

    def of(self, row: Mapping[str, Any]) -> Trial:
        """The trial of a row."""
        return self.trials[row["trial_id"]]

    def original(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The row of the original that a trial started from, if the folder has one."""
        return self.originals.get(self.of(row).original.id)

    def retrain(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The row of the retrain that a trial is compared with, if the folder has one."""
        recipe = self.of(row).retrain
        return self.retrains.get(recipe.id) if recipe is not None else None

    def _examples(self, trial_id: str) -> dict[str, np.ndarray]:
        """``<split>_<column>`` of a trial, ``<split>_index`` included; empty where none was stored."""
        try:
            table = read_table(self.store.place.inside("examples"), file_of(trial_id))
        except FileNotFoundError:  # merged into a larger file, or never written
            table = self.store.read("examples", filter=ds.field("trial_id") == trial_id)
        columns = [name for name in table.column_names if name not in ("trial_id", "split")]
        split = np.asarray(table["split"].cast(pa.string()).to_pylist(), dtype=str)
        arrays = {name: table[name].to_numpy() for name in columns}
        found = {f"{each}_{name}": arrays[name][split == each] for each in np.unique(split) for name in columns}
        return parted(found, self.trials[trial_id].forget) if trial_id in self.trials else found

    def curve(self, trial_id: str) -> pa.Table | None:
        """The points of a trial's curve in the order in which they were taken."""
        if self._curves is None:
            table = self.store.read("curves")
            ids = np.asarray(table["trial_id"].to_pylist(), dtype=str)
            order = np.argsort(ids, kind="stable")
            names, starts = np.unique(ids[order], return_index=True)
            parts = np.split(order, starts[1:]) if len(names) else []
            self._curves = {str(name): table.take(np.sort(part)) for name, part in zip(names, parts)}
        return self._curves.get(trial_id)

    def is_sampled(self, row: Mapping[str, Any]) -> bool:
        """Whether the stored examples hold only a part of D_R."""
        return (
            row["retain_size"] is not None
            and len(self.examples(row["trial_id"]).get("retain_index", ())) < row["retain_size"]
        )


def parted(arrays: dict[str, np.ndarray], forget: ForgetSet) -> dict[str, np.ndarray]:
    """The arrays of a trial that forgot classes before D_V and D_Test were parted by them, parted by what labels say: those of the sampler's classes or, of
    another grouping, those of D_F where D_R has none of them. Groups that labels do not tell stay in D_V and D_Test."""
    if forget.sampler != "class" or "forget_label" not in arrays or "forgotten_test_label" in arrays:
        return arrays
    if forget.options.get("by", "class") == "class":
        classes = np.asarray(forget.options["classes"])
    else:
        classes = np.setdiff1d(arrays["forget_label"], arrays.get("retain_label", []))
    found = dict(arrays)
    for split in ("validation", "test"):
        own = [name for name in arrays if name.startswith(f"{split}_")]
        among = np.isin(arrays.get(f"{split}_label", []), classes)
        if among.any() and not among.all():
            found |= {f"forgotten_{name}": arrays[name][among] for name in own}
            found |= {name: arrays[name][~among] for name in own}
    return found


def read_trial(row: Mapping[str, Any]) -> Trial:
    """The trial that a row records; raises ResultsError naming the row."""
    try:
        return Trial.model_validate_json(row["trial"])
    except ValidationError as error:
        raise ResultsError(
            f"Row {row['trial_id']} holds a trial that this version cannot read: {error.errors()[0]['msg']}."
        ) from error
