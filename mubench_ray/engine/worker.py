"""What a worker process is handed once, and how it runs one job after another. Plain Python, no Ray."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mubench_ray.engine.job import Job
from mubench_ray.engine.plan import split_name
from mubench_ray.engine.watchdog import ATTEMPTS, watching
from mubench_ray.errors import MubenchError, ends_process, one_line, reason_of
from mubench_ray.registry import load_plugin
from mubench_ray.results.storage import Place, StorageLost
from mubench_ray.results.store import Store
from mubench_ray.status import Status
from mubench_ray.training.distributed import WorkerLost, World
from mubench_ray.trial import Recipe, Trial, own_name
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.observing import Wanted, failed_record, feeding
from mubench_ray.trials.originals import forget_split, get_artifact
from mubench_ray.trials.rows import failed_outcome
from mubench_ray.trials.run_trial import Keep, metric_names, observe_again, prepare_network_process, run_trial


@dataclass(frozen=True)
class Worker:
    """Everything that is the same for all jobs of a run. ``continued`` names the trials that another one goes on from, ``objectives`` the columns of a
    row that the driver is told when a trial ends, ``observations`` what trials are looked at for, ``keep`` which unlearned networks are kept, ``workers``
    how many processes share a job of a model (1 of those not named), ``sharded`` whether they keep its parameters in pieces, ``gpus`` what part of a
    device, or how many, a process has, ``watchdog`` after how many seconds without progress a process is ended, ``folder`` where relative paths begin."""

    continued: frozenset[str]
    out: str
    artifacts: str
    data_dir: str | None
    plugins: tuple[str, ...]
    device: str
    concurrency: int
    threads: int
    objectives: tuple[str, ...] = ()
    observations: tuple[Wanted, ...] = ()
    keep: Keep = "none"
    workers: Mapping[str, int] = field(default_factory=dict)
    sharded: bool = False
    checkpoint_seconds: float | None = None
    gpus: float = 0
    watchdog: float | None = None
    folder: str = "."

    @property
    def tenants(self) -> int:
        """How many jobs may share a device with each other: a part of a GPU, or the memory of a machine."""
        return min(self.concurrency, max(1, math.floor(1 / self.gpus + 1e-9))) if self.gpus else self.concurrency

    def prepare(self) -> None:
        """Make this process ready to run jobs."""
        # On another node it may not be there, and what `ray job submit` sent has another name.
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        prepare_network_process(self.threads)
        for plugin in self.plugins:
            # Where a suite was sent to a cluster plugins travel in its working folder, which lies elsewhere on every node.
            load_plugin(plugin if Path(plugin).is_file() else Path("plugins") / Path(plugin).name)

    def make_ready(self, where: str) -> None:
        """``prepare``; what fails there is raised as a MubenchError that says ``where``."""
        try:
            self.prepare()
        except BaseException as error:
            if ends_process(error):
                raise
            raise MubenchError(f"the worker process on {where} could not be made ready: {reason_of(error)}") from error

    def workers_of(self, model: str) -> int:
        """How many processes share a job of a model."""
        return self.workers.get(model, 1)

    @property
    def _store(self) -> ArtifactStore:
        return ArtifactStore(self.artifacts, self.checkpoint_seconds)

    def run(self, job: Job, world: World | None = None, alone: bool = False) -> dict[str, Any]:
        """Make an artifact, run a trial or look at one that has its row, and write it; returns ``status`` and, of a failure, ``error``, and the columns that
        ``objectives`` names. Of several processes (``world``) rank 0 writes.

        Two more statuses have no row: ``crowded``, out of memory beside others (``alone`` says that there are none), and ``unwritten``, where the
        storage is lost.
        """
        if self.device.startswith("cuda") and 0 < self.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(1.0 if alone else self.gpus)
        marks = Store(self.out).place.inside("hung")
        first = world is None or world.rank == 0
        try:
            # Others wait for rank 0 while it evaluates, and it waits for them in every step: watching it is enough.
            if (world or World()).on_rank_0(lambda: marks.exists(f"{job.name}-{ATTEMPTS}.txt")):
                return self._hung(job, marks) if first else {"status": Status.FAILED, "error": "hung"}
            with watching(self.watchdog if first else None, lambda stacks: leave_mark(marks, job.name, stacks)):
                if isinstance(job.content, Recipe):
                    return self._make(job.content, world, alone)
                if job.kind == "observation":
                    return self._observe(job, job.content, world, alone)
                return self._run(job, job.content, world, alone)
        except StorageLost as error:
            return {"status": "unwritten", "error": str(error)}

    def _run(self, job: Job, trial: Trial, world: World | None, alone: bool) -> dict[str, Any]:
        store, tenants = self._store, 1 if alone else self.tenants
        if trial.retrain is None:
            self._write_split(trial)
        keep = "all" if trial.id in self.continued else "none" if job.part else self.keep
        wanted = feeding(self.observations, self.objectives) if job.part else self.observations
        outcome = run_trial(trial, store, self.data_dir, self.device, tenants, keep, world, wanted)
        if outcome.row["status"] == Status.OUT_OF_MEMORY and self._crowded(world, alone):
            return {"status": "crowded", "error": outcome.row["error"]}
        if outcome.row["status"] == Status.OUT_OF_MEMORY and alone:
            outcome.row["error"] += " (also with the device to itself)"
        if world is None or world.rank == 0:
            Store(self.out).part(job.part).write(outcome, metric_names())
            if progress := store.progress(trial.id):
                progress.remove()
        values = outcome.values
        return {name: values.get(name) for name in ("status", "error", *self.objectives)}

    def _observe(self, job: Job, trial: Trial, world: World | None, alone: bool) -> dict[str, Any]:
        """Look at a trial that has its row for what its folder lacks."""
        row, tenants = Store(self.out).row(trial.id), 1 if alone else self.tenants
        records = observe_again(trial, self._wanted(job), row, self._store, self.data_dir, self.device, tenants, world)
        bad = [record for record in records if record["status"] != Status.OK]
        if bad and bad[0]["status"] == Status.OUT_OF_MEMORY and self._crowded(world, alone):
            return {"status": "crowded", "error": bad[0]["error"]}
        Store(self.out).write_observations(records)
        return {"status": bad[0]["status"], "error": bad[0]["error"]} if bad else {"status": Status.OK, "error": None}

    def _wanted(self, job: Job) -> list[Wanted]:
        return [each for each in self.observations if each.id in job.observations]

    def give_up(
        self, job: Job, reason: str, status: str = Status.FAILED, traceback: str | None = None
    ) -> dict[str, Any]:
        """Write what is left of a job that could not be run: a trial's row, or the records of what it was to be looked at for, with the reason."""
        store, content = Store(self.out), job.content
        if job.kind == "observation" and isinstance(content, Trial):
            store.write_observations(failed_record(content, each, reason, status) for each in self._wanted(job))
        elif isinstance(content, Trial):
            spent = self._store.spent(content.id)
            outcome = failed_outcome(content, reason, status, self.workers_of(content.model), traceback, spent)
            store.part(job.part).write(outcome, metric_names())
        return {"status": status, "error": reason} | {name: None for name in self.objectives}

    def _crowded(self, world: World | None, alone: bool) -> bool:
        """Whether a job that is out of memory had others beside it."""
        return self.tenants > 1 and not alone and (world is None or world.size == 1)

    def _hung(self, job: Job, marks: Place) -> dict[str, Any]:
        """The row of a trial that hung as often as it may."""
        stacks = marks.read(f"{job.name}-{ATTEMPTS}.txt").decode()
        reason = f"hung: no progress for {self.watchdog:g} s, {ATTEMPTS} times (resources.watchdog in the suite sets the limit)"
        for attempt in range(1, ATTEMPTS + 1):
            marks.delete(f"{job.name}-{attempt}.txt")
        return self.give_up(job, f"{job.name} {reason}" if job.kind == "artifact" else reason, traceback=stacks)

    def _make(self, recipe: Recipe, world: World | None, alone: bool) -> dict[str, Any]:
        try:
            if recipe.forget:
                self._write_split(recipe)
            get_artifact(recipe, self._store, self.data_dir, self.device, world)
        except (WorkerLost, StorageLost):
            raise
        except BaseException as error:  # the reason goes into the row of every trial that needed it
            if isinstance(error, KeyboardInterrupt) or ends_process(error):
                raise
            crowded = isinstance(error, MemoryError | torch.OutOfMemoryError) and self._crowded(world, alone)
            reason = f"its {recipe.kind} ({recipe.id}) could not be made: {one_line(error)}"
            return {"status": "crowded" if crowded else Status.FAILED, "error": reason}
        return {"status": Status.OK, "error": None}

    def _write_split(self, recipe: Recipe | Trial) -> None:
        """The manifest of a forget set (indices, SHA-256), beside the results."""
        store, name = Store(self.out), f"splits/{split_name(recipe)}.json"
        if not store.place.exists(name):
            manifest = forget_split(recipe, self._store, self.data_dir, self.device).manifest
            data = {"task": own_name(recipe.task), "subset": recipe.subset}
            data |= {"validation": recipe.validation} if recipe.validation else {}
            store.write_text(name, json.dumps({**data, **manifest}))


def exit_of(message: str) -> str:
    """What Ray says of a process that died, in one line, without its ids and its list of guesses."""
    text = " ".join(message.split())
    found = re.search(
        r"Worker exit type: (\w+) Worker exit detail: (.*?)( There are some potential root causes|$)", text
    )
    if found is None:
        return text[:400]
    address = re.search(r" ip: (\S+)", text)
    return f"{found[1]}, {found[2]}" + (f" (on {address[1]})" if address else "")


def leave_mark(marks: Place, job: str, stacks: str) -> None:
    """Leave word that this job hung here; who tries it next reads it."""
    earlier = sum(name.startswith(f"{job}-") for name in marks.names())
    marks.write(f"{job}-{min(earlier + 1, ATTEMPTS)}.txt", stacks)
