"""What a worker is handed: the plan's nodes and where things lie; and how it runs one node. Plain Python, no Ray."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mubench_ray.engine.artifacts import ArtifactStore, get_artifact
from mubench_ray.engine.plan import Plan, split_name
from mubench_ray.engine.run_trial import metric_names, one_line, prepare_network_process, run_trial
from mubench_ray.engine.workspace import load_task
from mubench_ray.registry import load_plugin
from mubench_ray.results.store import Store
from mubench_ray.splits import split_forget
from mubench_ray.trial import Recipe, Trial


@dataclass(frozen=True)
class Job:
    """Everything that is the same for all nodes of a run; ``nodes`` maps an artifact's or trial's id to its JSON,
    ``continued`` names the trials that another one goes on from."""

    nodes: dict[str, str]
    continued: frozenset[str]
    out: str
    artifacts: str
    data_dir: str | None
    plugins: tuple[str, ...]
    device: str
    concurrency: int
    threads: int

    @classmethod
    def of(cls, plan: Plan, ids: list[str], **where: Any) -> Job:
        """The job of running these nodes of a plan."""
        things = plan.recipes | plan.trials
        nodes = {node: things[node].model_dump_json() for node in ids}
        return cls(nodes=nodes, continued=frozenset(plan.continued), plugins=tuple(plan.suite.plugins), **where)

    def prepare(self) -> None:
        """Make this process ready to run nodes."""
        prepare_network_process(self.threads)
        for plugin in self.plugins:
            load_plugin(plugin)

    def run(self, node: str) -> dict[str, Any]:
        """Make an artifact or run a trial and write it; returns ``status`` and, of a failure, ``error``."""
        if is_artifact(node):
            return self._make(Recipe.model_validate_json(self.nodes[node]))
        trial = Trial.model_validate_json(self.nodes[node])
        store = ArtifactStore(self.artifacts)
        outcome = run_trial(trial, store, self.data_dir, self.device, self.concurrency, keep=node in self.continued)
        Store(self.out).write(outcome, metric_names())
        return {"status": outcome.row["status"], "error": outcome.row["error"]}

    def _make(self, recipe: Recipe) -> dict[str, Any]:
        try:
            if recipe.forget:
                self._write_split(recipe)
            get_artifact(recipe, ArtifactStore(self.artifacts), self.data_dir, self.device)
        except Exception as error:  # noqa: BLE001 - the reason goes into the row of every trial that needed it
            return {
                "status": "failed",
                "error": f"its {recipe.kind} ({recipe.id}) could not be made: {one_line(error)}",
            }
        return {"status": "ok", "error": None}

    def _write_split(self, recipe: Recipe) -> None:
        """The manifest of a forget set (indices, SHA-256), beside the results."""
        store, name = Store(self.out), f"splits/{split_name(recipe)}.json"
        if not (store.root / name).is_file():
            _, splits = load_task(recipe.task, recipe.subset, self.data_dir)
            manifest = split_forget(splits.train, recipe.forget).manifest
            store.write_text(name, json.dumps({"task": recipe.task, "subset": recipe.subset, **manifest}))


def is_artifact(node: str) -> bool:
    """Whether a node id is an original's or a retrain's."""
    return node.startswith(("original-", "retrain-"))


def default_artifacts(out: str | Path) -> str:
    """Where artifacts lie unless a shared folder is named."""
    return str(Path(out) / "artifacts")
