"""A leaderboard: a results folder made of the checked results folders of several groups.

Everything that reads a results folder reads a leaderboard too: `mubench report`, `score`, `rerun`. The column
``submission`` of its trials names the group, ``submissions.json`` says what each handed over. A trial that two groups
ran is there once, from whoever came first, and the later numbers must be the same on the same kind of device.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mubench_ray.errors import ResultsError
from mubench_ray.files import hidden, read_json, sha256
from mubench_ray.results.locks import locked
from mubench_ray.results.mlflow_sink import RUNS_FILE
from mubench_ray.results.observations import differ
from mubench_ray.results.plans import PLAN
from mubench_ray.results.repetitions import configured, of_every_suite, with_all_columns
from mubench_ray.results.schema import SCHEMA_VERSION
from mubench_ray.results.store import Store
from mubench_ray.results.submission import HASHES, Submission, check_submission, refuse

SUBMISSIONS = "submissions.json"
#: What two runs of one trial on one kind of device must agree on.
REPRODUCED = ("forget_accuracy", "retain_accuracy", "test_accuracy", "validation_accuracy", "flos")
DECORATIONS = ("metrics.json", "methods.json")


def submit(folder: str | Path, board: str | Path, name: str | None = None, data_dir: str | Path | None = None) -> dict:
    """Check a packed results folder and add it to a leaderboard, which is made if there is none; returns its entry.

    Raises ResultsError with a line for every fault, and leaves the leaderboard as it was. What a killed submission left
    undone the same call completes.
    """
    folder, store = Path(folder), Store(board)
    name = name or folder.absolute().name
    submission = check_submission(folder, data_dir)
    if not (store.root / SUBMISSIONS).is_file():
        if store.root.exists() and any(store.root.iterdir()):
            raise ResultsError(
                f"{store.root} exists and is no leaderboard: it has no {SUBMISSIONS}; name a new folder."
            )
        merge_checked({name: submission}, store.root)
        return entries(store)[name]
    store.check(must_exist=True)
    known = entries(store)
    if name in known and known[name]["hashes"] != sha256(folder / HASHES):
        raise ResultsError(
            f"{store.root} has a submission {name!r} already, of another content; choose another name with --name."
        )
    with locked(store.root):  # two submissions at once would write the same file
        refuse(folder, list(contradictions(store, submission)))
        add(store, name, submission)
    return entries(store)[name]


def merge(folders: list[str | Path], out: str | Path, data_dir: str | Path | None = None) -> dict[str, dict]:
    """Check packed results folders and make a new leaderboard of all of them, or of none; returns its entries.

    Groups are named by their folders. Raises ResultsError with a line for every fault.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ResultsError(f"{out} is not empty; name a new folder with --out, or add to it with submit.")
    paths = [Path(folder).absolute() for folder in folders]
    twice = sorted({path.name for path in paths if [other.name for other in paths].count(path.name) > 1})
    if twice:
        raise ResultsError(f"Two folders are called {twice[0]!r}, and groups are named by them; rename one.")
    checked, faults = {}, []
    for path in paths:
        try:
            checked[path.name] = check_submission(path, data_dir)
        except ResultsError as error:
            faults.append(str(error))
    if faults:
        raise ResultsError("\n".join(faults))
    merge_checked(checked, out)
    return entries(Store(out))


def merge_checked(checked: dict[str, Submission], out: Path) -> None:
    """Make a leaderboard beside its place and move it there when it is whole."""
    partial = hidden(out)
    shutil.rmtree(partial, ignore_errors=True)
    board = Store(partial)
    try:
        board.create({"suite": out.name, "trials": 0})
        board.write_text(SUBMISSIONS, "{}")
        for name, submission in checked.items():
            refuse(submission.root, list(contradictions(board, submission)))
            add(board, name, submission)
        if out.exists():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def entries(board: Store) -> dict[str, dict[str, Any]]:
    """The submissions of a leaderboard by name; raises ResultsError where it is none."""
    path = board.root / SUBMISSIONS
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); {board.root} is no leaderboard, or damaged.") from error


def contradictions(board: Store, submission: Submission) -> Iterator[str]:
    """What the leaderboard holds otherwise: a forget set of the same name, a trial with other numbers."""
    stored = board.read("trials").to_pylist()
    there = Submission(board.root, {}, stored)
    for name, (_, told) in sorted(submission.forget_sets.items()):
        if name in there.forget_sets and (known := there.forget_sets[name][1]) != told:
            yield f"forget set ({name}): is {told[:12]}... here and {known[:12]}... on the leaderboard; draw it with the same sampler and data"
    rows = {row["trial_id"]: row for row in stored}
    for row in submission.rows:
        other = rows.get(row["trial_id"])
        if other is None or other["device"] != row["device"] or other["status"] != row["status"]:
            continue
        for name in REPRODUCED:
            ours, theirs = row.get(name), other.get(name)
            if differ(ours, theirs):
                from_whom = f"{theirs:.6g} on the leaderboard, from {other['submission']}"
                yield f"trial {row['trial_id']}: {name} is {ours:.6g} here and {from_whom}, both on {row['device']}; run it again"


def add(board: Store, name: str, submission: Submission) -> None:
    """Write a checked submission into the leaderboard: its trials come last, in one file that appears whole."""
    source = Store(submission.root)
    ids, held, known = {row["trial_id"] for row in submission.rows}, board.finished(), entries(board)
    wanted = ids - held
    entry = {
        "suite": submission.manifest.get("suite"),
        "trials": len(submission.rows),
        "shared": len(submission.rows) - len(wanted) if name not in known else known[name]["shared"],
        "forget_sets": len(submission.forget_sets),
        "forget_sets_drawn_anew": submission.redrawn,
        "hashes": sha256(submission.root / HASHES),
        "provenance": submission.manifest.get("provenance"),
    }
    board.place.delete(PLAN)  # a merge has none; boards of an earlier release had one
    board.write_text(SUBMISSIONS, json.dumps(known | {name: entry}, indent=2))
    board.write_text(
        "manifest.json",
        json.dumps(board.check() | {"schema_version": SCHEMA_VERSION, "trials": len(held | ids)}, indent=2),
    )
    for document in DECORATIONS:
        merged = source.read_object(document) | board.read_object(document)
        board.write_text(document, json.dumps(merged, indent=2))
    for path in sorted((submission.root / "splits").glob("*.json")):
        if not (board.root / "splits" / path.name).is_file():
            board.write_text(f"splits/{path.name}", path.read_text())
    add_runs(board, submission.root, wanted)
    place = next_part(board, "trials")
    for table in ("examples", "curves") if wanted else ():
        copy_table(source, board, table, wanted, place)
    if len(records := new_records(source, board, submission)):
        board.write_table("observations", next_part(board, "observations"), records)
    if len(rows := new_rows(source, board, wanted, name)):
        board.write_table("trials", place, rows)


def next_part(board: Store, table: str) -> str:
    """File name for the rows of a submission, after all that the table has."""
    numbers = [int(path.stem.split("-")[1]) for path in (board.root / table).glob("part-*.parquet")]
    return f"part-{1 + max(numbers, default=0)}.parquet"


def copy_table(source: Store, board: Store, table: str, wanted: set[str], name: str) -> None:
    """The rows of the ``wanted`` trials in a table beside ``trials``, as one file of the leaderboard."""
    rows = source.read(table)
    rows = rows.filter(pc.field("trial_id").isin(pa.array(sorted(wanted), pa.string())))
    if len(rows):
        board.write_table(table, name, rows)


def new_records(source: Store, board: Store, submission: Submission) -> pa.Table:
    """The records of observations that the leaderboard lacks; of a trial that it has already where the numbers are those of the same kind of device."""
    device = {
        row["trial_id"]: row["device"] for row in board.read("trials", columns=["trial_id", "device"]).to_pylist()
    }
    same = {row["trial_id"] for row in submission.rows if device.get(row["trial_id"], row["device"]) == row["device"]}
    records, there = source.read("observations"), board.observed().keys()
    keys = zip(*(records[name].to_pylist() for name in ("trial_id", "observation", "version", "options")))
    return records.filter(pa.array([key[0] in same and key not in there for key in keys], pa.bool_()))


def new_rows(source: Store, board: Store, wanted: set[str], name: str) -> pa.Table:
    """The rows of the ``wanted`` trials with their ``submission``, and those of the leaderboard once more that the submission counts as of another
    configuration too: the first step of a sequence is a trial of its own elsewhere, and what a search chose may be a trial that another suite gives."""
    # What an earlier release's search chose, and what several suites share, stands in the source's own folder only.
    rows = of_every_suite(configured(with_all_columns(source.read("trials")), source), source)
    known = configured(with_all_columns(board.read("trials")), board)
    there = set(zip(known["trial_id"].to_pylist(), known["configuration"].to_pylist()))
    place = {trial_id: number for number, trial_id in reversed([*enumerate(known["trial_id"].to_pylist())])}
    shared = zip(rows["trial_id"].to_pylist(), rows["configuration"].to_pylist())
    also = [pair for pair in shared if pair[0] in place and pair not in there]
    again = known.take(pa.array([place[trial_id] for trial_id, _ in also], pa.int64()))
    texts = pa.array([text for _, text in also], pa.string())
    again = again.set_column(again.schema.get_field_index("configuration"), "configuration", texts)
    rows = rows.filter(pc.field("trial_id").isin(pa.array(sorted(wanted), pa.string())))
    rows = rows.append_column("submission", pa.array([name] * len(rows), pa.string()))
    return pa.concat_tables([rows, again], promote_options="default")


def add_runs(board: Store, folder: Path, wanted: set[str]) -> None:
    """Take over which MLflow runs are on a server; those in a group's own database can be opened nowhere else."""
    if not (folder / RUNS_FILE).is_file():
        return
    runs = pq.read_table(folder / RUNS_FILE)
    served = [uri is not None and uri.startswith(("http:", "https:")) for uri in runs["tracking_uri"].to_pylist()]
    own = pc.field("trial_id").isin(pa.array(sorted(wanted), pa.string()))
    runs = runs.filter(pa.array(served, pa.bool_())).filter(own)
    if (board.root / RUNS_FILE).is_file():
        runs = pa.concat_tables([pq.read_table(board.root / RUNS_FILE), runs])
    if len(runs):
        board.write_table(".", RUNS_FILE, runs)
