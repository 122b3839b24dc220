"""What a worker is handed: the plan's nodes and where things lie; and how it runs one node. Plain Python, no Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mubench_ray.engine.artifacts import ArtifactStore, get_artifact
from mubench_ray.engine.plan import split_name
from mubench_ray.engine.run_trial import metric_names, one_line, prepare_network_process, run_trial
from mubench_ray.engine.workspace import load_half
from mubench_ray.registry import load_plugin
from mubench_ray.results.store import Store
from mubench_ray.splits import split_forget
from mubench_ray.training.distributed import WorkerLost, World
from mubench_ray.trial import Recipe, Trial


@dataclass(frozen=True)
class Job:
    """Everything that is the same for all nodes of a run. ``continued`` names the trials that another one goes on from, ``observed`` the columns of a
    row that the driver is told when a trial ends, ``workers`` how many processes share a node of a model (1 of those not named),
    ``sharded`` whether they keep its parameters in pieces."""

    continued: frozenset[str]
    out: str
    artifacts: str
    data_dir: str | None
    plugins: tuple[str, ...]
    device: str
    concurrency: int
    threads: int
    observed: tuple[str, ...] = ()
    workers: Mapping[str, int] = field(default_factory=dict)
    sharded: bool = False
    checkpoint_seconds: float | None = None

    def prepare(self) -> None:
        """Make this process ready to run nodes."""
        prepare_network_process(self.threads)
        for plugin in self.plugins:
            load_plugin(plugin)

    def workers_of(self, content: str) -> int:
        """How many processes share the node."""
        return self.workers.get(json.loads(content)["model"], 1) if self.workers else 1

    @property
    def _store(self) -> ArtifactStore:
        return ArtifactStore(self.artifacts, self.checkpoint_seconds)

    def run(self, node: str, content: str, folder: str = "", world: World | None = None) -> dict[str, Any]:
        """Make an artifact or run a trial, given as JSON, and write it (a trial's row into ``folder`` of the results); returns ``status`` and, of a
        failure, ``error``, and the columns that ``observed`` names. Of several processes (``world``) rank 0 writes."""
        if is_artifact(node):
            return self._make(Recipe.model_validate_json(content), world)
        trial = Trial.model_validate_json(content)
        store = self._store
        if trial.retrain is None:
            self._write_split(trial)
        keep = node in self.continued
        outcome = run_trial(trial, store, self.data_dir, self.device, self.concurrency, keep, world)
        if world is None or world.rank == 0:
            Store(self.out).part(folder).write(outcome, metric_names())
            if progress := store.checkpoint(trial.id):
                progress.remove()
        return {name: outcome.row.get(name) for name in ("status", "error", *self.observed)}

    def _make(self, recipe: Recipe, world: World | None) -> dict[str, Any]:
        try:
            if recipe.forget:
                self._write_split(recipe)
            get_artifact(recipe, self._store, self.data_dir, self.device, world)
        except WorkerLost:
            raise
        except Exception as error:  # noqa: BLE001 - the reason goes into the row of every trial that needed it
            return {
                "status": "failed",
                "error": f"its {recipe.kind} ({recipe.id}) could not be made: {one_line(error)}",
            }
        return {"status": "ok", "error": None}

    def _write_split(self, recipe: Recipe | Trial) -> None:
        """The manifest of a forget set (indices, SHA-256), beside the results."""
        store, name = Store(self.out), f"splits/{split_name(recipe)}.json"
        if not (store.root / name).is_file():
            _, splits = load_half(recipe.task, recipe.subset, self.data_dir, recipe.half)
            manifest = split_forget(splits.train, recipe.forget).manifest
            store.write_text(name, json.dumps({"task": recipe.task, "subset": recipe.subset, **manifest}))


def is_artifact(node: str) -> bool:
    """Whether a node id is an artifact's: ``original-...``, ``retrain-...``, ``forget-only-...``; a trial's has no dash."""
    return "-" in node


def default_artifacts(out: str | Path) -> str:
    """Where artifacts lie unless a shared folder is named."""
    return str(Path(out) / "artifacts")
