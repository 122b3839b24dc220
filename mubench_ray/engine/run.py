"""Run a suite: plan, what is missing, Ray, report. The same call again completes what a killed one left."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mubench_ray.engine.job import Job, observing_name, searching_name
from mubench_ray.engine.plan import Plan, make_plan, recipes_of
from mubench_ray.engine.schedule import Progress, Schedule
from mubench_ray.engine.tuned import keep
from mubench_ray.engine.tuning import Tuning, bill, planned_search
from mubench_ray.engine.worker import Worker
from mubench_ray.forget.scored import scoring_networks
from mubench_ray.methods import METHODS
from mubench_ray.metrics.base import describe_metrics
from mubench_ray.provenance import provenance
from mubench_ray.results.locks import exclusive
from mubench_ray.results.plans import PLAN, entered, planned, read_plan
from mubench_ray.results.schema import RECORD_KEY
from mubench_ray.results.storage import StorageLost, absolute
from mubench_ray.results.store import Store
from mubench_ray.status import FINAL, RETRIED, USABLE, Status, is_usable
from mubench_ray.suite import Resources, Suite, load_suite
from mubench_ray.trial import EXTERNAL, Trial
from mubench_ray.trials.artifacts import ArtifactStore, default_artifacts
from mubench_ray.trials.observing import Wanted, possible

#: Seconds between two looks at how many small files lie about.
MERGE_EVERY = 5.0

Watch = Callable[[Progress], AbstractContextManager]


@dataclass(frozen=True)
class Run:
    """How a run ended. ``failed`` counts the planned trials whose row holds no result, by their reason, most frequent first; ``search_failed`` those of a
    search; ``left_out`` the trials that the plan left out."""

    out: str
    planned: int
    finished: int
    already: int
    failed: dict[str, int] = field(default_factory=dict)
    search_failed: dict[str, int] = field(default_factory=dict)
    #: How many of the failed ones ``retry_failed`` would run again; those that diverged would diverge again.
    retriable: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    #: Observations of planned trials that could not be made, by their reason.
    unobserved: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every planned trial has its row."""
        return self.finished == self.planned

    @property
    def exit_code(self) -> int:
        """0: every trial of the suite has its result, a truncated one included, which is what its budget gave; 1: some failed or were left out; 2: there is
        not a single result. An observation that could not be made counts like a trial that failed."""
        if self.finished == sum(self.failed.values()):
            return 2
        return 1 if self.failed or self.search_failed or self.left_out or self.unobserved else 0


def run_suite(
    suite: Suite | str | Path,
    out: str | Path | None = None,
    address: str | None = None,
    artifacts: str | Path | None = None,
    retry_failed: bool = False,
    watch: Watch | None = None,
) -> Run:
    """Run every trial of a suite that has no row yet in ``out`` (default ``results/<suite name>``).

    ``address`` joins a running Ray cluster, otherwise one is started here; ``artifacts`` is a folder of originals and retrains shared between suites;
    ``retry_failed`` runs rows of status ``failed`` and ``out_of_memory`` again. Raises MubenchError for what no trial could run without.
    """
    if not isinstance(suite, Suite):
        suite = load_suite(suite)
    plan = make_plan(suite)
    store = Store(absolute(out or Path("results") / suite.name))
    store.check()
    artifacts = absolute(artifacts or default_artifacts(store.place.address))
    with exclusive(store.place):
        enter(store, plan, describe_plan(plan))
        work = Work(plan, store, artifacts, retry_failed)
        work.write_plan()
        keep(store, plan.settled)
        already = len(store.finished() & plan.trials.keys())
        # Also when nothing is missing: what a killed run had not copied to MLflow yet is copied now.
        with housekeeping(store, suite):
            if work.missing:
                _run(work, address, watch or (lambda progress: nullcontext()))
        work.write_choices()
        finished = len(store.finished() & plan.trials.keys())
        failed = failures(store, USABLE, plan.trials)
        # In a search a configuration that diverges is an answer.
        search_failed = failures(work.search_store, FINAL, work.tuning.search_trials) if work.tuning else {}
        retriable = sum(failures(store, FINAL, plan.trials).values()) + sum(search_failed.values())
        unobserved = work.unobserved()
    left_out = {f"{part.what}: {part.reason}": part.trials for part in plan.left_out}
    retriable += sum(unobserved.values())
    unobserved |= {f"{part.what}: {part.reason}": part.trials for part in plan.unobservable}
    return Run(
        store.place.address, work.planned, finished, already, failed, search_failed, retriable, left_out, unobserved
    )


def enter(store: Store, plan: Plan, entry: dict[str, Any]) -> None:
    """Write what a results folder says of itself, with an ``entry`` of its plan beside those that are there."""
    whole = entered(store, entry)
    store.create(manifest(plan.suite, plan) | {"trials": planned(whole)})
    store.write_text(PLAN, json.dumps(whole))
    store.write_text("suite.json", plan.suite.model_dump_json(indent=2))
    # What an earlier suite's plugins told of their metrics stays: their columns do.
    told = store.read_object("metrics.json") | describe_metrics()
    store.write_text("metrics.json", json.dumps(told, indent=2))
    titles = {name: {"title": METHODS.get(name).title} for name in (*METHODS.names(), EXTERNAL)}
    store.write_text("methods.json", json.dumps(titles))


def search_rows(store: Store, wanted: Sequence[Wanted]) -> dict[str, dict[str, Any]]:
    """The rows of a search by trial id, with the metrics of the observations that its objectives read; those that were not looked at just so are to be run
    again, as if they were not there."""
    rows = {row["trial_id"]: row for row in store.read("trials").to_pylist()}
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for record in store.read("observations").to_pylist() if wanted else ():
        found[tuple(record[name] for name in RECORD_KEY)] = json.loads(record["values"])
    for name, row in list(rows.items()):
        if is_usable(row):
            values = [found.get((name, *each.key)) for each in wanted]
            rows[name] = row | {metric: value for each in values for metric, value in (each or {}).items()}
            if None in values:
                del rows[name]
    return rows


def failures(store: Store, usable: tuple[str, ...], trials: Container[str] | None = None) -> dict[str, int]:
    """How many rows (of these trials) have another status than the usable ones, by their reason, most frequent first."""
    rows = store.read("trials", columns=["trial_id", "status", "error"]).to_pylist()
    bad = [row for row in rows if row["status"] not in usable and (trials is None or row["trial_id"] in trials)]
    reasons = Counter(row["error"] or row["status"] for row in bad)
    return dict(reasons.most_common())


class Work:
    """What of a plan is still to be done: trials that are reported and, where the suite searches, those of the search.

    With a search the plan holds those reported trials whose configuration is chosen, and grows with every choice. Rows of the search lie in a results
    folder of their own, ``search``.
    """

    def __init__(self, plan: Plan, store: Store, artifacts: str, retry_failed: bool) -> None:
        self.plan, self.store, self.artifacts = plan, store, artifacts
        #: Everything that is to be done and known so far, by the name of its job.
        self._jobs: dict[str, Job] = {}
        #: What the processes are handed that do it, once there are any.
        self.worker: Worker | None = None
        self.planned = len(plan.trials)
        self.tuning: Tuning | None = None
        if retry_failed:
            # What failed of another suite stays: this run does not try it again.
            others = set((read_plan(store) or {"trials": []})["trials"]) - plan.trials.keys()
            store.forget_rows(RETRIED, but=others)
            store.forget_records(RETRIED, but=others)
        if plan.suite.search:
            self.tuning = self._tuning(retry_failed)
            plan.trials = dict(self.tuning.reported)
        #: Trials that had their row when this run began, and the configuration that it was written with.
        self.done = store.finished()
        self._written = store.configurations()
        self._observed = store.observed() if plan.observations else {}
        self._usable = self._usable_rows() if plan.observations else set()
        self.missing = self._unfinished()

    @property
    def search_store(self) -> Store:
        """The results folder of the search's trials."""
        return self.store.part("search")

    def _tuning(self, retry_failed: bool) -> Tuning:
        suite, store = self.plan.suite, self.search_store
        store.create({**manifest(suite, self.plan), "trials": planned_search(suite), "searched": True})
        for name in ("suite.json", "metrics.json", "methods.json"):
            store.write_text(name, self.store.place.read(name).decode())
        if retry_failed:
            store.forget_rows(RETRIED)
        return Tuning(suite, search_rows(store, self.plan.searched_observations))

    def _usable_rows(self) -> set[str]:
        rows = self.store.read("trials", columns=["trial_id", "status", "error", "flos"])
        return {row["trial_id"] for row in rows.to_pylist() if is_usable(row)}

    def lacks(self, trial: Trial) -> list[Wanted]:
        """What a trial that had its row when this run began is still to be looked at for."""
        if trial.id not in self._usable:
            return []
        wanted = possible(trial, self.plan.observations)
        return [each for each in wanted if (trial.id, *each.key) not in self._observed]

    def to_do(self, trials: dict[str, Trial]) -> dict[str, Trial]:
        """The trials of these that are to be run, by the names of their jobs: those without a row, and those that are to be looked at for more."""
        lacking = {name: trial for name, trial in trials.items() if name in self.done and self.lacks(trial)}
        unrun = {name: trial for name, trial in trials.items() if name not in self.done}
        return unrun | {observing_name(name): trial for name, trial in lacking.items()}

    def unobserved(self) -> dict[str, int]:
        """How many observations of planned trials could not be made, by their reason."""
        if not self.plan.observations:
            return {}
        wanted = {each.key for each in self.plan.observations}
        rows = self.store.read("observations", columns=[*RECORD_KEY, "status", "error"]).to_pylist()
        rows = [row for row in rows if tuple(row[name] for name in RECORD_KEY[1:]) in wanted]
        bad = [row for row in rows if row["status"] != Status.OK and row["trial_id"] in self.plan.trials]
        return dict(Counter(f"{row['observation']}: {row['error'] or row['status']}" for row in bad).most_common())

    def _unfinished(self) -> dict[str, Trial]:
        """The trials known so far that are still to be run or looked at, by the names of their jobs."""
        missing = self.to_do(self.plan.trials)
        if self.tuning:
            rows, searched = self.tuning.rows, self.tuning.search_trials
            missing |= {searching_name(name): trial for name, trial in searched.items() if name not in rows}
        return missing

    @property
    def expected(self) -> int:
        """How many trials are still to be run, those that follow from a search included."""
        observing = sum(name == observing_name(trial.id) for name, trial in self.missing.items())
        reported = self.planned - len(self.store.finished() & self.plan.trials.keys()) + observing
        if self.tuning is None:
            return reported
        return (
            reported + planned_search(self.plan.suite) - len(self.tuning.search_trials.keys() & self.tuning.rows.keys())
        )

    def ended(self, name: str, result: dict[str, Any] | None) -> dict[str, Trial]:
        """The trials that are to be run now that the job of this name has ended, by the names of theirs."""
        job = self._jobs[name]
        if self.tuning is None or not job.part:
            return {}
        fresh = self.tuning.ended(job.content.id, result)
        if fresh.reported:
            self.plan.trials |= fresh.reported
            self.write_plan()
        return {searching_name(each): trial for each, trial in fresh.searched.items()} | self.to_do(fresh.reported)

    def needs(self, trials: dict[str, Trial]) -> dict[str, tuple[str, ...]]:
        """What the jobs of trials, and of the artifacts that they need and that are not there yet, wait for."""
        made = ArtifactStore(self.artifacts)
        reported = [trial for name, trial in trials.items() if name != searching_name(trial.id)]
        searched = [trial for name, trial in trials.items() if name == searching_name(trial.id)]
        needed = recipes_of(reported, self.plan.observations)
        if searched:
            needed |= recipes_of(searched, self.plan.searched_observations)
        recipes = {name: recipe for name, recipe in needed.items() if not made.has(recipe)}
        self._jobs |= {name: Job("artifact", recipe) for name, recipe in recipes.items()}
        self._jobs |= {name: self._job(name, trial) for name, trial in trials.items()}
        wanted: dict[str, Iterable[str]] = {
            name: self.plan.needs(trial, self.plan.searched_observations if self._jobs[name].part else None)
            for name, trial in trials.items()
        }
        wanted |= {name: [r.id for r in scoring_networks(recipe.forget)] for name, recipe in recipes.items()}
        return {name: tuple(n for n in jobs if n in self._jobs and n != name) for name, jobs in wanted.items()}

    def _job(self, name: str, trial: Trial) -> Job:
        if name == observing_name(trial.id):
            return Job.observing(trial, self.lacks(trial))
        return Job("trial", trial, "search" if name == searching_name(trial.id) else "")

    def job(self, name: str) -> Job:
        """The job of this name."""
        return self._jobs[name]

    def is_artifact(self, name: str) -> bool:
        """Whether the job of this name makes an artifact."""
        return name in self._jobs and self._jobs[name].kind == "artifact"

    def follow(self, name: str, result: dict[str, Any] | None) -> dict[str, tuple[str, ...]]:
        """What is to be done now that a job has ended, like ``needs``."""
        return self.needs(self.ended(name, result))

    def abandon(self, name: str, reason: str) -> None:
        """Write what is left of a trial that could not be run to its end, unless it has its row."""
        job = self._jobs[name]
        if self.worker and (job.kind == "observation" or job.content.id not in self.store.part(job.part).finished()):
            self.worker.give_up(job, reason)

    def shared_by(self) -> dict[str, int]:
        """By how many processes a job of each model is shared, of those that are by several."""
        models = {trial.model for trial in (*self.plan.trials.values(), *self.missing.values())}
        workers = {model: self.plan.suite.workers_of(model) for model in models}
        return {model: number for model, number in workers.items() if number > 1}

    def write_plan(self) -> None:
        """``plan.json``: the plans of all suites that were run into this folder, this one's as far as its trials are known."""
        entry = describe_plan(self.plan, self.planned)
        written = {name: (self._written.get(name), trial.configuration) for name, trial in self.plan.trials.items()}
        entry["also"] = {name: ours for name, (theirs, ours) in written.items() if theirs not in (None, ours)}
        self.store.write_text(PLAN, json.dumps(entered(self.store, entry)))

    def write_choices(self) -> None:
        """``search/chosen.json``: what was chosen for every combination, and what the search cost; nothing without a search."""
        if self.tuning is None:
            return
        rows = {row["trial_id"]: row for row in self.search_store.read("trials").to_pylist()}
        search = self.tuning.search.model_dump()
        bill_of = ArtifactStore(self.artifacts).bill
        chosen = {"search": search, "complete": self.tuning.complete, "choices": self.tuning.choices(rows, bill_of)}
        chosen["networks"] = bill(map(bill_of, self.tuning.networks().values()))  # each once
        self.search_store.write_text("chosen.json", json.dumps(chosen, indent=2))


def _run(work: Work, address: str | None, watch: Watch) -> None:
    from mubench_ray.engine.cluster import cluster
    from mubench_ray.engine.tune import run_jobs

    resources = work.plan.suite.resources
    with scratch(work.store) as storage, cluster(address):
        workers = work.shared_by()
        count, limit = slots(resources, workers, joined=address is not None)
        work.worker = worker_for(work, count, workers)
        follow = work.follow if work.tuning else None
        schedule = Schedule(work.needs(work.missing), count, work.abandon, limit, follow, work.is_artifact)
        schedule.progress.total = work.expected
        with watch(schedule.progress):
            run_jobs(work.worker, schedule, work.job, resources, str(storage))


@contextmanager
def scratch(store: Store) -> Iterator[Path]:
    """A folder for Tune's own bookkeeping, which is nobody's to read, and stays on this machine where results lie in an object store; what tells of hung
    processes is cleared before and afterwards."""
    storage, hung = store.root / ".engine", store.place.inside("hung")
    shutil.rmtree(storage, ignore_errors=True)
    hung.clear()  # what earlier runs left
    try:
        yield storage.absolute()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
        with suppress(StorageLost):  # what hung is known; a run that could not write has said so
            hung.clear()


def slots(resources: Resources, workers: dict[str, int], joined: bool) -> tuple[int, int | None]:
    """How many jobs may run at a time, and how many the schedule hands out at most (None: the cluster's resources hold them back)."""
    from mubench_ray.engine.cluster import room

    # As many as fit of the widest: a trial that workers share then never waits for what another one holds.
    fit = room(resources, max(workers.values(), default=1), joined=joined)
    count = min(fit, resources.concurrency or sys.maxsize)
    # Where fewer may run than would fit, the schedule holds them back; else the cluster's resources do, which may grow with what waits.
    return count, count if workers or count < fit else resources.concurrency if joined else None


def worker_for(work: Work, count: int, workers: dict[str, int]) -> Worker:
    """What every process is handed that runs jobs of this run, ``count`` at a time."""
    suite, resources = work.plan.suite, work.plan.suite.resources
    return Worker(
        continued=frozenset(work.plan.continued),
        out=work.store.place.address,
        artifacts=work.artifacts,
        data_dir=suite.data_dir and str(Path(suite.data_dir).absolute()),
        plugins=tuple(suite.plugins),
        device="cuda" if resources.gpus else "cpu",
        concurrency=count,
        threads=max(1, int(resources.cpus)),
        workers=workers,
        sharded=resources.sharding == "fsdp",
        checkpoint_seconds=resources.checkpoint_seconds,
        gpus=resources.gpus,
        watchdog=resources.watchdog,
        folder=str(Path.cwd()),
        objectives=tuple(suite.search.objectives) if suite.search else (),
        observations=work.plan.observations,
        keep=suite.keep,
    )


@contextmanager
def housekeeping(store: Store, suite: Suite) -> Iterator[None]:
    """While a run goes on, copy its rows to MLflow and merge its small files, off the engine's path.

    An MLflow outage is a warning; `mubench report --sync-mlflow` catches up.
    """
    from mubench_ray.results.mlflow_process import following

    stop = threading.Event()

    def merge() -> None:
        while not stop.wait(MERGE_EVERY):
            with suppress(StorageLost):  # whoever writes rows says so; the files can be merged later
                store.compact()

    merging = threading.Thread(target=merge, daemon=True)
    merging.start()
    try:
        with following(store.place.address, suite.mlflow_uri):
            yield
    finally:
        stop.set()
        merging.join()
        with suppress(StorageLost):
            store.compact()


def manifest(suite: Suite, plan: Plan) -> dict[str, Any]:
    """What manifest.json says beside the schema version."""
    return {
        "suite": suite.name,
        "trials": len(plan.trials),
        "originals": len(plan.originals),
        "retrains": len(plan.retrains),
        "mlflow_uri": suite.mlflow_uri,
        "provenance": provenance(),
    }


def describe_plan(plan: Plan, planned: int | None = None) -> dict[str, Any]:
    """The plan as plain data: its suite, ids of artifacts and trials, how many trials there will be (``planned``; as many as are known unless said), and what
    was left out with its reason."""
    return {
        "suite": plan.suite.model_dump(mode="json"),
        "planned": len(plan.trials) if planned is None else planned,
        "recipes": list(plan.recipes),
        "trials": list(plan.trials),
        "left_out": [{"what": part.what, "trials": part.trials, "reason": part.reason} for part in plan.left_out],
        "observations": [dict(zip(("name", "version", "options"), each.key)) for each in plan.observations],
    }
