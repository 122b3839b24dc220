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
    "searched", "edges", "losses", "loss", "configurations", "usable", "trials", "ends", "unknown", "flos", "seconds", "terms", "networks",
)  # fmt: skip


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
            found.append(_settings(choice, rows, suite, store))
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


def _settings(
    choice: Mapping[str, Any], rows: list[dict[str, Any]], suite: Mapping[str, Any], store: Store
) -> Settings:
    """One choice as settings: its trial on the first of the selection seeds that it was tried on."""
    configuration = json.loads(choice["configuration"])
    how = dict(configuration["contender"]["tuned"])
    given = how.pop("given", {})
    found = [
        (how["seeds"].index(row["seed"]), row)
        for row in rows
        if row["method"] == choice["method"] and row["seed"] in how["seeds"] and _is_of(row, choice, configuration)
    ]
    if not found:
        raise ResultsError(
            f"{store.place}: the row of what was chosen for {choice['method']} is not in search/; run the suite again."
        )
    row = min(found, key=lambda each: each[0])[1]
    trial = Trial.model_validate_json(row["trial"])
    # Options of the loop that were searched are the suite's, before they were.
    before = {name: suite["unlearning"][name] for name in choice.get("options") or ()}
    versions = json.loads(row["metric_versions"] or "{}")
    return Settings(
        trial=trial,
        given=given,
        unlearning=Unlearning.model_validate(trial.unlearning.model_dump() | before),
        search=how,
        metrics={name: versions.get(name, 1) for name in how["objectives"]},
        cost={name: choice[name] for name in COST if name in choice},
        package=json.loads(row["provenance"]).get("mubench_ray"),
        date=str(row["finished_at"])[:10],
    )


def _is_of(row: Mapping[str, Any], choice: Mapping[str, Any], configuration: Mapping[str, Any]) -> bool:
    """Whether a row of the search is one of the chosen configuration."""
    trial = Trial.model_validate_json(row["trial"])
    chosen = {name: choice[name] for name in ("hyperparameters", "lr", "ratio")}
    return (
        all(getattr(trial, name) == value for name, value in chosen.items())
        and all(getattr(trial.unlearning, name) == value for name, value in (choice.get("options") or {}).items())
        and trial.forget.seed == choice["forget_seed"]
        and json.loads(trial.configuration)["setting"] == configuration["setting"]
    )
