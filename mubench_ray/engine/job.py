"""What a worker is handed: the plan's nodes and where things lie; and how it runs one node. Plain Python, no Ray."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mubench_ray.engine.plan import split_name
from mubench_ray.engine.watchdog import ATTEMPTS, watching
from mubench_ray.errors import MubenchError, ends_process, one_line
from mubench_ray.registry import load_plugin
from mubench_ray.results.storage import Place, StorageLost
from mubench_ray.results.store import Store
from mubench_ray.status import Status
from mubench_ray.training.distributed import WorkerLost, World
from mubench_ray.trial import Recipe, Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.observing import Asked, failed_record, feeding
from mubench_ray.trials.originals import forget_split, get_artifact
from mubench_ray.trials.rows import failed_outcome
from mubench_ray.trials.run_trial import (
    Keep,
    metric_names,
    observe_again,
    prepare_network_process,
    run_trial,
)


@dataclass(frozen=True)
class Job:
    """Everything that is the same for all nodes of a run. ``continued`` names the trials that another one goes on from, ``objectives`` the columns of a
    row that the driver is told when a trial ends, ``observations`` what trials are looked at for, ``keep`` which unlearned networks are kept, ``workers``
    how many processes share a node of a model (1 of those not named), ``sharded`` whether they keep its parameters in pieces, ``gpus`` what part of a
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
    observations: tuple[Asked, ...] = ()
    keep: Keep = "none"
    workers: Mapping[str, int] = field(default_factory=dict)
    sharded: bool = False
    checkpoint_seconds: float | None = None
    gpus: float = 0
    watchdog: float | None = None
    folder: str = "."

    @property
    def tenants(self) -> int:
        """How many nodes may share a device with each other: a part of a GPU, or the memory of a machine."""
        return min(self.concurrency, max(1, math.floor(1 / self.gpus + 1e-9))) if self.gpus else self.concurrency

    def prepare(self) -> None:
        """Make this process ready to run nodes."""
        # On another node it may not be there, and a job's working folder has another name.
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        prepare_network_process(self.threads)
        for plugin in self.plugins:
            # In a job that was sent to a cluster plugins travel in its working folder, which lies elsewhere on every node.
            load_plugin(plugin if Path(plugin).is_file() else Path("plugins") / Path(plugin).name)

    def make_ready(self, where: str) -> None:
        """``prepare``; what fails there is raised as a MubenchError that says ``where``."""
        try:
            self.prepare()
        except BaseException as error:
            if ends_process(error):
                raise
            reason = one_line(error, name=not isinstance(error, MubenchError))
            raise MubenchError(f"the worker process on {where} could not be made ready: {reason}") from error

    def workers_of(self, content: str) -> int:
        """How many processes share the node."""
        return self.workers.get(json.loads(content)["model"], 1) if self.workers else 1

    @property
    def _store(self) -> ArtifactStore:
        return ArtifactStore(self.artifacts, self.checkpoint_seconds)

    def run(
        self, node: str, content: str, folder: str = "", world: World | None = None, alone: bool = False
    ) -> dict[str, Any]:
        """Make an artifact, run a trial or look at one that has its row, given as JSON, and write it (into ``folder`` of the results); returns ``status``
        and, of a failure, ``error``, and the columns that ``objectives`` names. Of several processes (``world``) rank 0 writes.

        Two more statuses have no row: ``crowded``, out of memory beside others (``alone`` says that there are none), and ``unwritten``, where the
        storage is lost.
        """
        if self.device.startswith("cuda") and 0 < self.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(1.0 if alone else self.gpus)
        marks = Store(self.out).place.inside("hung")
        first = world is None or world.rank == 0
        try:
            # Others wait for rank 0 while it evaluates, and it waits for them in every step: watching it is enough.
            if (world or World()).first(lambda: marks.exists(f"{node}-{ATTEMPTS}.txt")):
                return (
                    self._give_up(node, content, folder, marks) if first else {"status": Status.FAILED, "error": "hung"}
                )
            watchdog = self.watchdog if first else None
            with watching(watchdog, lambda stacks: leave_mark(marks, node, stacks)):
                if is_artifact(node):
                    return self._make(Recipe.model_validate_json(content), world, alone)
                if is_look(node):
                    return self._look(node, content, world, alone)
                trial, store = Trial.model_validate_json(content), self._store
                if trial.retrain is None:
                    self._write_split(trial)
                keep = "all" if node in self.continued else "none" if folder else self.keep
                wanted = feeding(self.observations, self.objectives) if folder else self.observations
                tenants = 1 if alone else self.tenants
                outcome = run_trial(trial, store, self.data_dir, self.device, tenants, keep, world, wanted)
            if outcome.row["status"] == Status.OUT_OF_MEMORY and self._crowded(world, alone):
                return {"status": "crowded", "error": outcome.row["error"]}
            if outcome.row["status"] == Status.OUT_OF_MEMORY and alone:
                outcome.row["error"] += " (also with the device to itself)"
            if first:
                Store(self.out).part(folder).write(outcome, metric_names())
                if progress := store.checkpoint(trial.id):
                    progress.remove()
        except StorageLost as error:
            return {"status": "unwritten", "error": str(error)}
        values = outcome.values
        return {name: values.get(name) for name in ("status", "error", *self.objectives)}

    def _look(self, node: str, content: str, world: World | None, alone: bool) -> dict[str, Any]:
        """Look at a trial that has its row for what its folder lacks."""
        trial, wanted = told_look(content, self.observations)
        row, tenants = Store(self.out).row(trial.id), 1 if alone else self.tenants
        records = observe_again(trial, wanted, row, self._store, self.data_dir, self.device, tenants, world)
        bad = [record for record in records if record["status"] != Status.OK]
        if bad and bad[0]["status"] == Status.OUT_OF_MEMORY and self._crowded(world, alone):
            return {"status": "crowded", "error": bad[0]["error"]}
        Store(self.out).write_observations(records)
        return {"status": bad[0]["status"], "error": bad[0]["error"]} if bad else {"status": Status.OK, "error": None}

    def give_up(
        self,
        node: str,
        content: str,
        folder: str,
        reason: str,
        status: str = Status.FAILED,
        traceback: str | None = None,
    ) -> dict[str, Any]:
        """Write what is left of a node that could not be run: a trial's row, or the records of what it was to be looked at for, with the reason."""
        store = Store(self.out)
        if is_look(node):
            trial, wanted = told_look(content, self.observations)
            store.write_observations(failed_record(trial, each, reason, status) for each in wanted)
        elif not is_artifact(node):
            trial = Trial.model_validate_json(content)
            outcome = failed_outcome(trial, reason, status, self.workers.get(trial.model, 1), traceback)
            store.part(folder).write(outcome, metric_names())
        return {"status": status, "error": reason} | {name: None for name in self.objectives}

    def _crowded(self, world: World | None, alone: bool) -> bool:
        """Whether a node that is out of memory had others beside it."""
        return self.tenants > 1 and not alone and (world is None or world.size == 1)

    def _give_up(self, node: str, content: str, folder: str, marks: Place) -> dict[str, Any]:
        """The row of a trial that hung as often as it may."""
        stacks = marks.read(f"{node}-{ATTEMPTS}.txt").decode()
        reason = f"hung: no progress for {self.watchdog:g} s, {ATTEMPTS} times (resources.watchdog in the suite sets the limit)"
        for attempt in range(1, ATTEMPTS + 1):
            marks.delete(f"{node}-{attempt}.txt")
        if is_artifact(node):
            return {"status": Status.FAILED, "error": f"{node} {reason}"}
        return self.give_up(node, content, folder, reason, traceback=stacks)

    def _make(self, recipe: Recipe, world: World | None, alone: bool) -> dict[str, Any]:
        try:
            if recipe.forget:
                self._write_split(recipe)
            get_artifact(recipe, self._store, self.data_dir, self.device, world)
        except (WorkerLost, StorageLost):
            raise
        except (MemoryError, torch.OutOfMemoryError) as error:
            status = "crowded" if self._crowded(world, alone) else Status.FAILED
            return {"status": status, "error": f"its {recipe.kind} ({recipe.id}) could not be made: {one_line(error)}"}
        except BaseException as error:  # the reason goes into the row of every trial that needed it
            if isinstance(error, KeyboardInterrupt) or ends_process(error):
                raise
            return {
                "status": Status.FAILED,
                "error": f"its {recipe.kind} ({recipe.id}) could not be made: {one_line(error)}",
            }
        return {"status": Status.OK, "error": None}

    def _write_split(self, recipe: Recipe | Trial) -> None:
        """The manifest of a forget set (indices, SHA-256), beside the results."""
        store, name = Store(self.out), f"splits/{split_name(recipe)}.json"
        if not store.place.exists(name):
            manifest = forget_split(recipe, self._store, self.data_dir, self.device).manifest
            store.write_text(name, json.dumps({"task": recipe.task, "subset": recipe.subset, **manifest}))


def is_artifact(node: str) -> bool:
    """Whether a node id is an artifact's: ``original-...``, ``retrain-...``, ``forget-only-...``; a trial's has no dash."""
    return "-" in node


#: What the node of a trial that is looked at once more ends with; the trial's own node is its id.
LOOK = "+"


def is_look(node: str) -> bool:
    """Whether a node is a trial that has its row and is looked at for more."""
    return node.endswith(LOOK)


def tell_look(trial: Trial, wanted: Iterable[Asked]) -> str:
    """The JSON of a trial that is to be looked at for these observations."""
    return json.dumps(trial.model_dump(mode="json") | {"observations": [each.id for each in wanted]})


def told_look(content: str, observations: Iterable[Asked]) -> tuple[Trial, list[Asked]]:
    """What ``tell_look`` told, of these observations."""
    told = json.loads(content)
    wanted = told.pop("observations")
    return Trial.model_validate(told), [each for each in observations if each.id in wanted]


def exit_of(message: str) -> str:
    """What Ray says of a process that died, in one line, without its ids and its list of guesses."""
    text = " ".join(message.split())
    found = re.search(
        r"Worker exit type: (\w+) Worker exit detail: (.*?)( There are some potential root causes|$)", text
    )
    if found is None:
        return text[:400]
    place = re.search(r" ip: (\S+)", text)
    return f"{found[1]}, {found[2]}" + (f" (on {place[1]})" if place else "")


def leave_mark(marks: Place, node: str, stacks: str) -> None:
    """Leave word that this node hung here; who tries it next reads it."""
    earlier = sum(name.startswith(f"{node}-") for name in marks.names())
    marks.write(f"{node}-{min(earlier + 1, ATTEMPTS)}.txt", stacks)
