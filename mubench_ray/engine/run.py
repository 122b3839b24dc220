"""Run a suite: plan, what is missing, Ray, report. The same call again completes what a killed one left."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mubench_ray.engine.artifacts import ArtifactStore
from mubench_ray.engine.job import Job, default_artifacts
from mubench_ray.engine.plan import Plan, make_plan
from mubench_ray.engine.run_trial import failed_outcome, metric_names
from mubench_ray.engine.schedule import Progress, Schedule
from mubench_ray.errors import ResultsError
from mubench_ray.methods import METHODS
from mubench_ray.metrics import METRICS
from mubench_ray.provenance import provenance
from mubench_ray.results.store import Store
from mubench_ray.suite import Suite, load_suite

#: Seconds between two looks at how many small files lie about.
MERGE_EVERY = 5.0

Watch = Callable[[Progress], AbstractContextManager]


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    out: Path
    planned: int
    finished: int
    already: int

    @property
    def complete(self) -> bool:
        """Whether every planned trial has its row."""
        return self.finished == self.planned


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
    out = Path(out or Path("results") / suite.name).absolute()
    store = Store(out)
    store.create(manifest(suite, plan))
    with exclusive(out):
        store.write_text("suite.json", suite.model_dump_json(indent=2))
        store.write_text("metrics.json", json.dumps(describe_metrics(), indent=2))
        store.write_text("methods.json", json.dumps({name: {"title": method.title} for name, method in METHODS}))
        store.write_text("plan.json", json.dumps(describe_plan(plan)))
        if retry_failed:
            store.forget_rows(("failed", "out_of_memory"))
        done = store.finished() & plan.trials.keys()
        missing = [trial for trial in plan.trials if trial not in done]
        # Also when nothing is missing: what a killed run had not copied to MLflow yet is copied now.
        with beside(store, suite):
            if missing:
                _run(
                    plan,
                    missing,
                    store,
                    str(artifacts or default_artifacts(out)),
                    address,
                    watch or (lambda progress: nullcontext()),
                )
        finished = len(store.finished() & plan.trials.keys())
    return Run(out, len(plan.trials), finished, len(done))


def _run(plan: Plan, missing: list[str], store: Store, artifacts: str, address: str | None, watch: Watch) -> None:
    from mubench_ray.engine.cluster import cluster
    from mubench_ray.engine.tune import fitting, run_nodes

    made = ArtifactStore(artifacts)
    absent = {node for node, recipe in plan.recipes.items() if not made.has(recipe)}
    absent |= set(missing)
    needs = {trial: tuple(node for node in plan.needs(plan.trials[trial]) if node in absent) for trial in missing}

    def lost(trial: str, reason: str) -> None:
        if trial not in store.finished():
            store.write(failed_outcome(plan.trials[trial], reason), metric_names())

    resources = plan.suite.resources
    storage = store.root / ".engine"
    shutil.rmtree(storage, ignore_errors=True)
    try:
        with cluster(address) as has:
            count = min(fitting(resources, has), resources.concurrency or sys.maxsize)
            # Where fewer may run than would fit, the schedule holds them back; else the cluster's resources do, which is quicker.
            schedule = Schedule(needs, count, on_lost=lost, limit=count if count < fitting(resources, has) else None)
            job = Job.of(
                plan,
                [*(node for node in plan.recipes if node in absent), *missing],
                out=str(store.root),
                artifacts=str(Path(artifacts).absolute()),
                data_dir=plan.suite.data_dir and str(Path(plan.suite.data_dir).absolute()),
                device="cuda" if resources.gpus else "cpu",
                concurrency=count,
                threads=max(1, int(resources.cpus)),
            )
            with watch(schedule.progress):
                run_nodes(job, schedule, resources, str(storage))
    finally:
        shutil.rmtree(storage, ignore_errors=True)


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Keep a second driver out of the folder; the lock goes with the process, however it ends."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(
                f"Another mubench is writing to {out}; wait for it or choose another folder with --out."
            ) from None
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def beside(store: Store, suite: Suite) -> Iterator[None]:
    """While a run goes on, copy its rows to MLflow and merge its small files, off the engine's path.

    An MLflow outage is a warning; `mubench report --sync-mlflow` catches up.
    """
    from mubench_ray.results.mlflow_sink import MlflowSink

    stop = threading.Event()

    def merge() -> None:
        while not stop.wait(MERGE_EVERY):
            store.compact()

    copy = MlflowSink(store.root, suite.mlflow_uri).follow
    threads = [threading.Thread(target=copy, args=(stop,), daemon=True), threading.Thread(target=merge, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=120)  # an MLflow server that hangs does not hang the run
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


def describe_plan(plan: Plan) -> dict[str, Any]:
    """The plan as plain data: ids of artifacts and trials, and what was left out with its reason."""
    return {
        "recipes": list(plan.recipes),
        "trials": list(plan.trials),
        "left_out": [{"what": part.what, "trials": part.trials, "reason": part.reason} for part in plan.left_out],
    }


def describe_metrics() -> dict[str, Any]:
    """Direction, range and citation of every metric, for a report that does not import them."""
    keys = ("direction", "low", "high", "cites", "summary")
    return {
        name: {key: None if (value := getattr(metric, key)) == float("inf") else value for key in keys}
        for name, metric in METRICS
    }
