"""The results folder: four Parquet tables that are readable at any moment with pyarrow.dataset, duckdb or pandas.

Each trial is written by whoever ran it, to a file named by its id, under a hidden name first and renamed when whole. ``trials/<id>.parquet`` is
written last: where it exists, everything of that trial does, and writing a trial twice replaces it by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mubench_ray.errors import ResultsError
from mubench_ray.results.compaction import (
    LOOSE,
    compact,
    each_once,
    file_of,
    finish_merges,
    is_merged,
    loose_files,
    owner_of,
    read_file,
    read_table,
)
from mubench_ray.results.schema import (
    CURVES,
    EXAMPLES,
    OBSERVATIONS,
    READ_VERSIONS,
    RECORD_KEY,
    SCHEMA_VERSION,
    TRIAL_COLUMNS,
    table_of,
    trials_schema,
)
from mubench_ray.results.storage import Place, StorageLost
from mubench_ray.trial import digest

TABLES = ("trials", "curves", "examples", "observations")
SCHEMAS = {"curves": CURVES, "examples": EXAMPLES, "observations": OBSERVATIONS}


@dataclass
class Outcome:
    """What a trial left behind: its row, its curve points, its per-example table, the records of observations that were asked for; ``traceback`` of a
    failure."""

    row: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    examples: pa.Table | None = None
    traceback: str | None = None
    observations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        """The row with the metrics that its observations gave."""
        return self.row | {
            name: value for each in self.observations for name, value in json.loads(each["values"]).items()
        }


R = TypeVar("R")


class Store:
    """Reads and writes one results folder: a ``place`` that may be in an object store. ``root`` is the folder itself, or what stands for it here."""

    def __init__(self, root: str | Path | Place) -> None:
        self.place = root if isinstance(root, Place) else Place(root)
        self.root = self.place.home

    def part(self, name: str) -> Store:
        """A results folder inside this one, such as ``search``; this one itself for no name."""
        return Store(self.place.inside(name)) if name else self

    # Opening

    def create(self, manifest: dict[str, Any]) -> None:
        """Make the folder (or go on in it) and write its manifest; raises ResultsError when it cannot be written or is another version's."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.check()
            for table in TABLES:
                (self.root / table).mkdir(exist_ok=True)
            self.write_text("manifest.json", json.dumps({"schema_version": SCHEMA_VERSION, **manifest}, indent=2))
        except OSError as error:
            raise ResultsError(
                f"Results folder {self.place} cannot be written ({error.strerror or error}); choose another with --out."
            ) from error

    def check(self, must_exist: bool = False) -> dict[str, Any]:
        """The manifest; raises ResultsError when the folder holds none (``must_exist``) or one of another schema version."""
        path = f"{self.place}/manifest.json"
        try:
            content = self.place.read("manifest.json")
        except (FileNotFoundError, NotADirectoryError):
            if must_exist:
                raise ResultsError(
                    f"{self.place} is not a results folder: it has no manifest.json. Name the folder that `mubench run` wrote."
                ) from None
            return {}
        try:
            manifest = json.loads(content)
            version = manifest["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{path} is damaged ({error}); restore it or use a new folder.") from error
        if version not in READ_VERSIONS:
            raise ResultsError(
                f"{self.place} was written with results schema {version}, this version reads {' and '.join(map(str, READ_VERSIONS))}. "
                "Use a new folder with --out, or the mubench_ray version that wrote it."
            )
        return manifest

    # Writing

    def write(self, outcome: Outcome, metrics: list[str]) -> None:
        """Write one trial: examples and curve first, its row last."""
        name = file_of(outcome.row["trial_id"])
        if outcome.examples is not None:
            self.write_table("examples", name, outcome.examples)
        if outcome.curve:
            self.write_table("curves", name, table_of(outcome.curve, CURVES))
        self.write_observations(outcome.observations)
        if outcome.traceback:
            self.write_text(f"logs/{file_of(outcome.row['trial_id'], '.txt')}", outcome.traceback)
        self.write_table("trials", name, table_of([outcome.row], trials_schema(metrics)))

    def write_observations(self, records: Iterable[dict[str, Any]]) -> None:
        """Write records of observations, each to a file of its own; one of the same trial, observation, version and options is replaced."""
        for record in records:
            kind = digest({name: record[name] for name in RECORD_KEY[1:]}, 8)
            name = file_of(record["trial_id"], f"-{kind}.parquet")
            self.write_table("observations", name, table_of([record], OBSERVATIONS))

    def observed(self) -> dict[tuple[str, str, str, str], str]:
        """The status of every record of the folder, by trial id, observation, version and options."""
        rows = self.read("observations", columns=[*RECORD_KEY, "status"])
        return dict(zip(zip(*(rows[name].to_pylist() for name in RECORD_KEY)), rows["status"].to_pylist()))

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the folder whole or not at all; returns where it lies, if on this machine."""
        self.place.write(name, text)
        return self.root / name

    def write_table(self, table: str, name: str, content: pa.Table) -> None:
        """Write one Parquet file of a table whole or not at all."""
        self.place.write(f"{table}/{name}", content)

    def forget_records(self, statuses: tuple[str, ...], but: Collection[str] = ()) -> int:
        """Remove the records of observations that have one of these statuses, so that they count as missing, ``but`` those of some trials; returns how many."""
        folder, gone, others = self.place.inside("observations"), 0, pa.array(list(but), pa.string())
        finish_merges(folder)
        for name in folder.names():
            if name.endswith(".parquet") and name[0] not in "._":
                whole = read_table(folder, name)
                kept = whole.filter(~pc.field("status").isin(statuses) | pc.field("trial_id").isin(others))
                gone += whole.num_rows - kept.num_rows
                if not kept.num_rows:
                    folder.delete(name)
                elif kept.num_rows < whole.num_rows:
                    folder.write(name, kept)
        return gone

    def forget_rows(self, statuses: tuple[str, ...], but: Collection[str] = ()) -> int:
        """Remove the rows that have one of these statuses, so that their trials count as missing, ``but`` those of some trials; returns how many. Raises
        ResultsError, and removes none, where one has no id but something else in its place."""
        rows = self.read("trials", columns=["trial_id", "status"]).to_pylist()
        gone = {row["trial_id"] for row in rows if row["status"] in statuses} - set(but)
        for table in TABLES if gone else ():
            self._drop(table, gone)
        return len(gone)

    def compact(self, at_least: int = LOOSE) -> None:
        """Merge one-trial files into few where at least this many lie about."""
        for table in reversed(TABLES):
            compact(self.place.inside(table), at_least)

    def _drop(self, table: str, trials: set[str]) -> None:
        folder = self.place.inside(table)
        finish_merges(folder)
        own = {file_of(trial_id, "") for trial_id in trials}
        for name in [name for name in loose_files(folder) if owner_of(name) in own]:
            folder.delete(name)
        for part in [name for name in folder.names() if name.startswith("part-")]:
            whole = read_table(folder, part)
            kept = whole.filter(~pc.field("trial_id").isin(sorted(trials)))
            if kept.num_rows < whole.num_rows:
                folder.write(part, kept)

    # Reading

    def files(self, table: str) -> list[str]:
        """The Parquet files of a table that hold rows, also of a merge in progress."""
        names = [name for name in self.place.names(table) if name.endswith(".parquet") and name[0] != "."]
        return [f"{self.place.path}/{table}/{name}" for name in names]

    def row(self, trial_id: str) -> dict[str, Any]:
        """The row of a trial; raises ResultsError where there is none."""
        try:
            rows = read_table(self.place.inside("trials"), file_of(trial_id))
        except FileNotFoundError:  # merged into a larger file
            rows = self.read("trials", filter=pc.field("trial_id") == trial_id)
        if not len(rows):
            raise ResultsError(f"{self.place} has no row of trial {trial_id}.")
        return rows.to_pylist()[0]

    def read_object(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty where there is none that can be read."""
        try:
            content = json.loads(self.place.read(name))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def finished(self) -> set[str]:
        """Ids of the trials that have a row."""
        return self._undisturbed("trials", self._ids)

    def configurations(self) -> dict[str, str | None]:
        """The configuration that each row was written with; None in rows of an earlier release."""

        def look(files: list[str]) -> dict[str, str | None]:
            if not files or "configuration" not in (schema := self._schema("trials", files)).names:
                return {}
            dataset = ds.dataset(files, schema=schema, format="parquet", filesystem=self.place.fs)
            rows = dataset.to_table(columns=["trial_id", "configuration"])
            return dict(zip(rows["trial_id"].to_pylist(), rows["configuration"].to_pylist(), strict=True))

        return self._undisturbed("trials", look)

    def _ids(self, files: list[str]) -> set[str]:
        ids: set[str] = set()
        for file in files:
            if is_merged(file):
                ids.update(read_file(file, self.place.fs, ["trial_id"])["trial_id"].to_pylist())
            else:
                ids.add(Path(file).stem)
        return ids

    def read(self, table: str, columns: list[str] | None = None, filter: Any = None) -> pa.Table:
        """A whole table (one of TABLES); empty when nothing was written yet. Of ``columns`` those that the files of an earlier
        release lack are null."""
        self.check(must_exist=True)

        def look(files: list[str]) -> pa.Table:
            # A merge in progress shows its rows twice, in the hidden file and in those it replaces.
            folder = self.place.inside(table)
            files = [f"{folder.path}/{name}" for name in each_once(folder, [Path(file).name for file in files])]
            if not files:
                empty = SCHEMAS.get(table) or trials_schema([])
                return empty.empty_table().select(columns or empty.names)
            schema = self._schema(table, files)
            for known in SCHEMAS.get(table) or TRIAL_COLUMNS:  # of an earlier release some are asked for in vain
                if known.name in (columns or ()) and known.name not in schema.names:
                    schema = schema.append(known.with_nullable(True))
            dataset = ds.dataset(files, schema=schema, format="parquet", filesystem=self.place.fs)
            return dataset.to_table(columns=columns, filter=filter)

        return self._undisturbed(table, look)

    def _undisturbed(self, table: str, look: Callable[[list[str]], R]) -> R:
        """What ``look`` makes of a table's files; looks again where a merge moved rows between files meanwhile."""
        while True:
            files = self.files(table)
            try:
                result = self.place.tried("read", lambda files=files: look(files))
            except StorageLost:
                raise
            except (pa.ArrowInvalid, OSError) as error:
                if not self._moved(table, files):
                    raise ResultsError(
                        f"{self._damaged(files) or f'{self.place}/{table}'} cannot be read ({error}); "
                        "remove the damaged file and run the suite again."
                    ) from error
            else:
                if not self._moved(table, files):
                    return result

    def _moved(self, table: str, files: list[str]) -> bool:
        """Whether a merge moved rows between files since these were all of the table's."""
        now = self.files(table)
        return not set(files) <= set(now) or any(is_merged(file) for file in set(now) - set(files))

    def _damaged(self, files: list[str]) -> str | None:
        for file in files:
            try:
                read_file(file, self.place.fs)
            except (pa.ArrowInvalid, OSError):
                return file
        return None

    def _schema(self, table: str, files: list[str]) -> pa.Schema:
        """Trials' metric columns may differ between files, where a metric was added later; the union of them."""
        if table != "trials":
            return SCHEMAS[table]
        schemas = {pq.read_schema(file, filesystem=self.place.fs): None for file in files}
        return pa.unify_schemas(list(schemas))
