"""Tuned settings from a results folder whose search has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mubench_ray.errors import ResultsError
from mubench_ray.results.store import Store
from mubench_ray.trial import Trial, Unlearning
from mubench_ray.tuned.settings import Settings, read, save

#: What of a choice is its cost and what it found.
COST = (
    "losses",
    "loss",
    "configurations",
    "usable",
    "trials",
    "ends",
    "unknown",
    "flos",
    "seconds",
    "terms",
    "networks",
)


def collect(store: Store) -> tuple[list[Settings], list[str]]:
    """The settings that the search of a results folder chose so far, and a line for what gives none: a choice without a usable configuration, or a search
    that has not ended.

    Raises ResultsError where the folder holds no search.
    """
    search = store.part("search")
    content = search.read_object("chosen.json")
    if not content.get("choices"):
        raise ResultsError(f"{store.place} holds no search: run a suite with `search` into it.")
    suite = search.read_object("suite.json")
    rows = search.read("trials").to_pylist()
    found, none = [], []
    if not content.get("complete"):
        none.append(
            f"{store.place}: its search has not ended: of some methods nothing is chosen yet. The command that began it goes on."
        )
    for choice in content["choices"]:
        if not choice["configurations"]:
            continue
        name = f"{choice['task']}, {choice['model']}, {choice['method']}, {choice['ratio']:g} %"
        if not choice["usable"]:
            none.append(f"{name}: not one of {choice['configurations']} configurations was usable.")
        elif choice.get("networks") is None:
            none.append(
                f"{name}: an earlier release searched, and does not say what it cost. Run the suite there again."
            )
        else:
            found.append(_settings(choice, rows, Unlearning.model_validate(suite.get("unlearning") or {}), store))
    return found, none


def update(path: Path, folder: Path | None, drop_stale: bool) -> list[str]:
    """Write what the search of a results folder chose to a file of settings, each in the place of one of its key, and take out what is stale if asked to;
    returns what was done, a line each. Raises MubenchError, and writes nothing, where either cannot be read."""
    known = {each.key: each for each in (read(path) if path.exists() else [])}
    told = []
    if folder is not None:
        found, none = collect(Store(folder))
        if not found and not none:
            raise ResultsError(f"{folder}: its search had nothing to tune.")
        known |= {each.key: each for each in found}
        told += [*none, f"{len(found)} settings written to {path}."]
    for key, each in list(known.items()) if drop_stale else ():
        if reason := each.stale():
            del known[key]
            told.append(f"{each.name}: dropped: {reason}.")
    save(path, known.values())
    return told


def _settings(choice: Mapping[str, Any], rows: list[dict[str, Any]], unlearning: Unlearning, store: Store) -> Settings:
    configuration = json.loads(choice["configuration"])
    how = dict(configuration["contender"]["tuned"])
    given = how.pop("given", {})
    seed = how["seeds"][0]
    for row in rows:
        if row["method"] == choice["method"] and row["seed"] == seed and row["ratio"] == choice["ratio"]:
            trial = Trial.model_validate_json(row["trial"])
            chosen = {"hyperparameters": choice["hyperparameters"], "lr": choice["lr"]}
            same = all(getattr(trial, name) == value for name, value in chosen.items())
            same &= trial.forget.seed == choice["forget_seed"]
            if same and json.loads(trial.configuration)["setting"] == configuration["setting"]:
                break
    else:
        raise ResultsError(
            f"{store.place}: the row of what was chosen for {choice['method']} is not in search/; run the suite again."
        )
    versions = json.loads(row["metric_versions"] or "{}")
    return Settings(
        trial=trial,
        given=given,
        unlearning=unlearning,
        search=how,
        metrics={name: versions.get(name, 1) for name in how["objectives"]},
        cost={name: choice[name] for name in COST if name in choice},
        package=json.loads(row["provenance"]).get("mubench_ray"),
        date=str(row["finished_at"])[:10],
    )
