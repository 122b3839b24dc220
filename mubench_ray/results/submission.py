"""A results folder of another group, held to what it claims before a leaderboard takes it in.

``pack`` writes ``hashes.json``, the SHA-256 of every file that is handed over; ``check_submission`` reads the folder and
refuses it with one line for every fault. A number that was changed after packing is found by its hash; one that was
changed before, where it can be computed anew: trial ids from the trials, forget sets from their indices and, with the
data at hand, from the sampler, mean scores and losses from the stored examples, costs from the budget.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from mubench_ray.errors import MubenchError, ResultsError
from mubench_ray.files import read_json, sha256
from mubench_ray.metrics.base import METRICS, compute_one, reads
from mubench_ray.results.configurations import setting_names
from mubench_ray.results.observations import arrays_in, contradictions, kinds_shown, with_observations
from mubench_ray.results.plans import PLAN
from mubench_ray.results.repetitions import as_today
from mubench_ray.results.store import TABLES, Store
from mubench_ray.status import STATUSES, USABLE
from mubench_ray.trial import CONTROLS, EXTERNAL, Trial, own_name

HASHES = "hashes.json"
#: What is handed over beside the tables and the forget sets.
DOCUMENTS = ("manifest.json", PLAN, "suite.json", "metrics.json", "methods.json")
#: Means in a row and those of its stored single-precision examples may differ by rounding.
ROUNDING = 1e-4
#: Seconds are checked before a step, which then takes what it takes.
LAST_STEP = 1.1
FAULTS_SHOWN = 40


@dataclass
class Submission:
    """A results folder as it is checked: its rows, their trials (None where one cannot be read) and what was verified."""

    root: Path
    manifest: dict[str, Any]
    rows: list[dict[str, Any]]
    redrawn: int = 0

    @cached_property
    def trials(self) -> list[Trial | None]:
        """The trial of every row."""
        return [read_trial(row["trial"]) for row in self.rows]

    @cached_property
    def forget_sets(self) -> dict[str, tuple[Trial, str]]:
        """By name: a trial that forgets the set, and the SHA-256 that its row gives."""
        return {
            forget_name(trial): (trial, row["forget_sha256"])
            for row, trial in zip(self.rows, self.trials)
            if trial is not None and row["forget_sha256"]
        }


def pack(root: str | Path) -> Path:
    """Write ``hashes.json`` beside the tables of a results folder; raises ResultsError where it is none."""
    store = Store(root)
    store.check(must_exist=True)
    files = {name: sha256(store.root / name) for name in handed_over(store)}
    return store.write_text(HASHES, json.dumps({"files": files}, indent=1))


def handed_over(store: Store) -> list[str]:
    """The files of a results folder that a submission consists of, relative to it."""
    documents = [name for name in DOCUMENTS if (store.root / name).is_file()]
    tables = [Path(file).relative_to(store.root).as_posix() for table in TABLES for file in store.files(table)]
    splits = [path.relative_to(store.root).as_posix() for path in sorted((store.root / "splits").glob("*.json"))]
    return [*documents, *tables, *splits]


def check_submission(root: str | Path, data_dir: str | Path | None = None) -> Submission:
    """Read and check a packed results folder; raises ResultsError with a line for every fault.

    ``data_dir`` is where the data of tasks lies; a task whose data is not at hand has its forget sets checked against
    the manifests in ``splits`` only.
    """
    store = Store(root)
    manifest = store.check(must_exist=True)
    refuse(store.root, list(faulty_files(store)))
    submission = Submission(store.root, manifest, with_observations(store.read("trials"), store)[0].to_pylist())
    faults = [*faulty_rows(submission), *faulty_plan(submission)]
    faults += [*faulty_numbers(submission), *faulty_costs(submission), *faulty_examples(submission, store)]
    faults += faulty_observations(store)
    faults += [*faulty_controls(submission), *faulty_forget_sets(submission, data_dir)]
    refuse(store.root, faults)
    return submission


def refuse(root: Path, faults: list[str]) -> None:
    """Raise ResultsError with the faults, one a line, if there are any."""
    if faults:
        shown = [f"- {fault}" for fault in faults[:FAULTS_SHOWN]]
        more = [f"- and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
        raise ResultsError("\n".join([f"{root} is refused, nothing of it was taken:", *shown, *more]))


def read_trial(text: str) -> Trial | None:
    """The trial of a row's JSON; None where it is none that this version knows."""
    try:
        return Trial.model_validate_json(text)
    except ValidationError:
        return None


def forget_name(trial: Trial) -> str:
    """What decides a forget set, as one text: equal names must be equal sets, in every folder."""
    forget = trial.forget
    options = forget.drawn_from
    cut = f"[{trial.subset}]" * (trial.subset is not None) + " validation test-half" * bool(trial.validation)
    cut += f" half {trial.half}" * (trial.half is not None)
    tail = f" {json.dumps(options, sort_keys=True)}" if options else ""
    return f"{own_name(trial.task)}{cut}, {forget.sampler}, {forget.ratio:g} %, seed {forget.seed}{tail}"


def faulty_files(store: Store) -> Iterator[str]:
    """Files that are missing, added or changed since the folder was packed."""
    path = store.root / HASHES
    again = f"run `mubench leaderboard pack {store.root.name}` where it was made and send it anew"
    try:
        listed = dict(read_json(path)["files"])
    except FileNotFoundError:
        yield f"{path}: there is no manifest of hashes; {again}"
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{path}: the manifest of hashes is damaged ({error}); {again}"
        return
    present = handed_over(store)
    for name in sorted(listed.keys() - set(present)):
        yield f"{store.root / name}: is in {HASHES} but not in the folder; {again}"
    for name in present:
        if name not in listed:
            yield f"{store.root / name}: is not in {HASHES}, it came later; {again}"
        elif (found := sha256(store.root / name)) != listed[name]:
            told = str(listed[name])[:12]
            yield f"{store.root / name}: was changed after packing, its SHA-256 is {found[:12]}..., not {told}...; {again}"
    if PLAN not in present:
        yield f"{store.root / PLAN}: is missing, so nobody can tell whether all planned trials are there; {again}"


def faulty_rows(submission: Submission) -> Iterator[str]:
    """Rows that do not hold the trial that their id and their columns name."""
    for row, trial in zip(submission.rows, submission.trials):
        where = f"trial {row['trial_id']}"
        if trial is None:
            yield f"{where}: holds a trial that this version cannot read: {row['trial'][:80]!r}; run it with this version"
            continue
        if trial.id != row["trial_id"]:
            yield f"{where}: its trial's id is {trial.id}, so one of the two was altered; run the trial again"
        told = {
            "task": own_name(trial.task), "model": own_name(trial.model), "method": trial.method, "ratio": trial.ratio, "seed": trial.seed,
            "lr": trial.lr, "training_seed": trial.training_seed, "forget_seed": trial.forget.seed,
            "sampler": trial.forget.sampler, "hyperparameters": json.dumps(trial.hyperparameters, sort_keys=True),
        }  # fmt: skip
        for name, value in told.items():
            if row[name] != value:
                yield f"{where}: column {name} says {row[name]!r}, its trial {value!r}; run the trial again"
        if as_today(row.get("configuration")) not in (None, trial.configuration):  # older folders have none
            yield f"{where}: column configuration is not that of its trial; run the trial again"
        if row["status"] not in STATUSES:
            yield f"{where}: status {row['status']!r} is none of {', '.join(STATUSES)}; run the trial again"


def faulty_plan(submission: Submission) -> Iterator[str]:
    """Planned trials without exactly one row, and rows that nobody planned."""
    path = submission.root / PLAN
    try:
        planned = set(read_json(path)["trials"])
    except (ValueError, KeyError, TypeError) as error:
        yield f"{path}: is damaged ({error}); run the suite again, which writes it"
        return
    rows = Counter(row["trial_id"] for row in submission.rows)
    told = submission.manifest.get("trials")
    if told != len(planned):
        yield f"{submission.root / 'manifest.json'}: says {told} trials, plan.json lists {len(planned)}; run the suite again"
    for trial_id in sorted(planned - rows.keys()):
        yield f"trial {trial_id}: is planned and has no row; run the suite again, which completes it"
    for trial_id in sorted(rows.keys() - planned):
        yield f"trial {trial_id}: has a row and is not planned; remove it or submit it with its own suite"
    for trial_id, count in sorted(rows.items()):
        if count > 1:
            yield f"trial {trial_id}: has {count} rows instead of one; remove the others"


def faulty_numbers(submission: Submission) -> Iterator[str]:
    """Metrics that are no number or out of their declared range, and numbers of trials that were never measured."""
    known = [name for name in METRICS.names() if any(row.get(name) is not None for row in submission.rows)]
    for row in submission.rows:
        where = f"trial {row['trial_id']}"
        for name in known:
            value, metric = row[name], METRICS.get(name)
            if value is None:
                continue
            slack = 1e-9 * max(1.0, abs(value))
            if not math.isfinite(value) or not metric.low - slack <= value <= metric.high + slack:
                allowed = f"{metric.low:g} to {metric.high:g}"
                yield f"{where}: {name} is {value:g}, which is not in its range, {allowed}; run the trial again"
            elif row["status"] not in USABLE:
                yield f"{where}: its status is {row['status']}, yet {name} is {value:g}; run the trial again"


def faulty_costs(submission: Submission) -> Iterator[str]:
    """Costs beyond the budget, and retrains that are said to have cost one thing here and another there."""
    retrains: dict[str, set[float]] = defaultdict(set)
    for row, trial in zip(submission.rows, submission.trials):
        if trial is None or row["status"] not in USABLE or trial.method == EXTERNAL:
            continue
        where = f"trial {row['trial_id']}"
        for cost in ("flos", "seconds"):
            value = row[cost]
            if value is None or not math.isfinite(value) or value < 0:
                yield f"{where}: {cost} is {value}, which is no cost; run the trial again"
        if trial.retrain is not None and row["retrain_flos"] is not None:
            retrains[trial.retrain.id].add(row["retrain_flos"])
        if trial.method in CONTROLS:
            continue
        limits = {"flos": (trial.budget.flos, 1 + 1e-6)}
        if isinstance(trial.budget.seconds, float | int):
            limits["seconds"] = (trial.budget.seconds, LAST_STEP)
        for cost, (share, slack) in limits.items():
            spent, whole = row[cost], row[f"retrain_{cost}"]
            if None not in (share, spent, whole) and spent > share * whole * slack:
                cap = f"{share:g} x {whole:.6g} of its retrain"
                yield f"{where}: {cost} is {spent:.6g}, above its budget of {cap}; run the trial again"
    for recipe, costs in sorted(retrains.items()):
        if len(costs) > 1:
            low, high = min(costs), max(costs)
            yield f"{recipe}: its retrain_flos are {low:.6g} in one row, {high:.6g} in another; run its trials again"


def faulty_examples(submission: Submission, store: Store) -> Iterator[str]:
    """Mean scores and losses that are not those of the stored examples. Where only a sample of D_R is stored, it is
    not checked."""
    table = store.read("examples", columns=["trial_id", "split", "loss", "correct"])
    table = table.set_column(1, "split", table["split"].cast(pa.string()))
    wide = {name: table[name].cast(pa.float64()) for name in ("loss", "correct")}
    table = pa.table({"trial_id": table["trial_id"], "split": table["split"], **wide})
    means = (
        table.group_by(["trial_id", "split"])
        .aggregate([("correct", "mean"), ("loss", "mean"), ("loss", "count")])
        .to_pylist()
    )
    found = {(row["trial_id"], row["split"]): row for row in means}
    for row in submission.rows:
        if row["status"] not in USABLE:
            continue
        where = f"trial {row['trial_id']}"
        whole = found.get((row["trial_id"], "retain"), {}).get("loss_count") == row["retain_size"]
        for split in ("test", "forget", "validation", *(["retain"] if whole else [])):
            for column, name in (("correct", f"{split}_accuracy"), ("loss", f"{split}_loss")):
                stored = row.get(name)
                if stored is None:
                    continue
                if (row["trial_id"], split) not in found:
                    yield f"{where}: has {name} but no stored examples of {split}; submit the folder with its examples"
                    break
                mean = found[row["trial_id"], split][f"{column}_mean"]
                if math.isfinite(mean) and abs(mean - stored) > ROUNDING * max(1.0, abs(mean)):
                    yield f"{where}: {name} is {stored:.6g}, its stored examples give {mean:.6g}; run the trial again"


def faulty_observations(store: Store) -> Iterator[str]:
    """Observations that are there twice with different numbers, and metrics that are not those of the stored arrays, as far as those are all that they
    read."""
    records = store.read("observations").to_pylist()
    yield from contradictions(records, kinds_shown(records, store)[0], store).values()
    for record in records:
        arrays = arrays_in(record)
        for name, stored in json.loads(record["values"]).items():
            if name not in METRICS or not reads(name) <= arrays.keys():
                continue
            again = compute_one(name, arrays, {})
            if again is None or abs(again - stored) > ROUNDING * max(1.0, abs(again)):
                where = f"trial {record['trial_id']}"
                yield f"{where}: {name} is {stored:.6g}, its stored arrays give {again}; observe the trial again"


def faulty_controls(submission: Submission) -> Iterator[str]:
    """Settings and ratios without a finished original or, where there can be one, a retrain."""
    wanted: dict[tuple, set[str]] = defaultdict(set)
    there: dict[tuple, set[str]] = defaultdict(set)
    names = setting_names({trial.configuration for trial in submission.trials if trial is not None})
    for row, trial in zip(submission.rows, submission.trials):
        if trial is None or trial.half is not None:
            continue
        cell = (*names[trial.configuration], trial.ratio)
        wanted[cell] |= set(CONTROLS) if trial.budget_epochs is None else {"original"}
        if row["status"] in USABLE:
            there[cell].add(row["method"])
    for cell in sorted(wanted):
        for control in sorted(wanted[cell] - there[cell]):
            task, model, ratio = cell
            named = f"{task}, {model}, {ratio:g} %"
            yield f"{named}: has no finished row of the control {control}; add it to the suite's methods and run it again"


def faulty_forget_sets(submission: Submission, data_dir: str | Path | None) -> Iterator[str]:
    """Forget sets that differ between rows, from their manifest or from what the sampler draws."""
    manifests = {}
    for path in sorted((submission.root / "splits").glob("*.json")):
        try:
            content = read_json(path)
            computed = hashlib.sha256(",".join(map(str, content["indices"])).encode()).hexdigest()
            told = content["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            yield f"{path}: is damaged ({error}); run the suite again in a new folder"
            continue
        if computed != told:
            yield f"{path}: says SHA-256 {told[:12]}..., its indices give {computed[:12]}...; run the suite again"
        manifests[computed] = content
    draws: dict[str, set[str]] = defaultdict(set)
    for row, trial in zip(submission.rows, submission.trials):
        if trial is None or (row["forget_sha256"] is None and row["status"] not in USABLE):
            continue
        draws[forget_name(trial)].add(row["forget_sha256"] or "none")
    for name, hashes in sorted(draws.items()):
        if len(hashes) > 1:
            shown = " and ".join(f"{each[:12]}..." for each in sorted(hashes))
            yield f"forget set ({name}): has the SHA-256 {shown} in different rows; run its trials again"
    for name, (trial, told) in sorted(submission.forget_sets.items()):
        drawn = redraw(trial, data_dir)
        if drawn is not None:
            submission.redrawn += 1
            if drawn != told:
                yield f"forget set ({name}): its rows say SHA-256 {told[:12]}..., its sampler draws {drawn[:12]}...; use this version's sampler"
        elif trial.retrain is not None:
            content = manifests.get(told)
            if content is None:
                yield f"forget set ({name}): no manifest in splits/ has its rows' SHA-256 {told[:12]}...; submit the folder with splits/"
            elif content["task"] != own_name(trial.task) or float(content["ratio"]) != trial.ratio:
                yield f"forget set ({name}): its manifest is one of {content['task']}, {content['ratio']} %; run its trials again"


def redraw(trial: Trial, data_dir: str | Path | None) -> str | None:
    """The SHA-256 of a trial's forget set, drawn anew; None where its data, its list or the network that scores it is not at hand."""
    from mubench_ray.forget import halves, split_forget

    try:
        train, listed = training_set(trial.task, trial.subset, data_dir, trial.validation)
        if trial.half is not None:
            train = train.select(halves(len(train), trial.half)[0])
        return split_forget(train, trial.forget, listed=listed).manifest["sha256"]
    except (MubenchError, OSError, ImportError):
        return None


@lru_cache(maxsize=1)
def training_set(task: str, subset: int | None, data_dir: str | Path | None, validation: str | None) -> tuple[Any, int]:
    """The training examples of a task as a trial has them, and how many the data's own list has; the last ones stay loaded."""
    from mubench_ray.tasks import TASKS

    splits = TASKS.get(task)(data_dir).splits(subset, validation)
    return splits.train, splits.listed
