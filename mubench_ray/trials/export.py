"""Networks of a results folder as checkpoints that other programs, and ``original:``, take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mubench_ray.errors import MubenchError
from mubench_ray.files import read_json
from mubench_ray.methods import METHODS
from mubench_ray.models import get_model
from mubench_ray.results.store import Store
from mubench_ray.trial import Recipe, Trial
from mubench_ray.trials.artifacts import Artifact, ArtifactStore, default_artifacts
from mubench_ray.trials.data import load_half


def export(
    folder: str | Path, name: str, to: Path, artifacts: str | None = None, row: dict[str, Any] | None = None
) -> Path:
    """Write the network of an artifact (``original-...``, ``retrain-...``) or, given its ``row``, of a trial whose f_U was kept (``keep: all``) into ``to``.

    Its classes are in the task's order, which its config names. Raises MubenchError where there is no such network or ``to`` holds something.
    """
    store = ArtifactStore(artifacts or default_artifacts(folder))
    if to.exists() and any(to.iterdir()):
        raise MubenchError(f"{to} holds something already: name a folder that is new.")
    made = Trial.model_validate_json(row["trial"]) if row is not None else _recipe(store, name)
    data_dir = Store(folder).read_object("suite.json").get("data_dir")
    task, _ = load_half(made.task, made.subset, data_dir, made.half)
    model = get_model(made.model, made.pretrained, made.original_checkpoint)
    network = model.build(task)
    if isinstance(made, Recipe):
        _artifact(store, made).load_into(network)
    elif store.has_kept(made.id):
        network = METHODS.get(made.method).configure(made.hyperparameters).result_of(network)
        store.load_kept(made.id, network)
    else:
        raise MubenchError(f"the network of trial {made.id} was not kept: run the suite with keep: all.")
    model.save(network, task, to)
    return to


def _recipe(store: ArtifactStore, name: str) -> Recipe:
    try:
        found = (
            read_json(store.root / name / "meta.json")
            if not store.place.remote
            else json.loads(store.place.read(f"{name}/meta.json"))
        )
    except (OSError, ValueError) as error:
        there = sorted(path.parent.name for path in store.root.glob("*-*/meta.json"))
        raise MubenchError(
            f"{store.place} has no artifact {name!r}; it has {', '.join(there[:6]) or 'none'}{', ...' * (len(there) > 6)}."
        ) from error
    return Recipe.model_validate(found["recipe"])


def _artifact(store: ArtifactStore, recipe: Recipe) -> Artifact:
    found = store.find(recipe)
    if found is None:
        raise MubenchError(f"{store.place}: artifact {recipe.id} was damaged and is removed: run its suite again.")
    return found
