"""A results folder as a search leaves it, with a landscape of losses in the place of trainings: its best learning rate is 1e-3."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mubench_ray.engine.tuning import Tuning
from mubench_ray.provenance import provenance
from mubench_ray.results.store import Outcome, Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.rows import planned_row
from mubench_ray.tuned.collect import collect, update

SEARCHED = {
    "name": "searched",
    "tasks": {"name": "digits", "subset": 300},
    "models": "cnn-small",
    "methods": ["original", "retrain", "ft", {"name": "salun", "form": "mixed", "epochs": 2}, "sisa"],
    "ratios": [5, 20],
    "seeds": [1, 2],
    "lrs": [1e-4, 1e-3, 1e-2],
    "training": {"epochs": 2},
    "search": {"strategy": "grid", "trials": None, "hyperparameters": "lr", "seeds": [101, 102]},
}
ON = {"device": "cpu", "compute": "fp32", "execution": "eager", "workers": 1}
GAPS = ("retain_gap", "forget_gap", "validation_gap")


def landscape(trial) -> dict:
    """What a search trial left: the smaller ratio wants the larger rate."""
    gap = abs(math.log10(trial.lr) + (3 if trial.ratio > 5 else 2)) / 4
    found = dict.fromkeys(GAPS, gap) | {"indisc_validation": 1 - gap}
    return {"status": "ok", "flos": 1e6, "seconds": 0.5, **found, **ON}


def made(recipe) -> dict:
    return {"flos": 5e7 if recipe.kind == "original" else 4e7, "seconds": 3.0, "terms": ON}


def searched(folder: Path, content: dict) -> Store:
    """The folder of a suite whose search has ended."""
    suite = make_suite(content)
    store = Store(folder)
    store.create({"suite": suite.name, "trials": 0, "provenance": {}})
    search = store.part("search")
    search.create({"suite": suite.name, "trials": 0, "provenance": {}})
    search.write_text("suite.json", suite.model_dump_json())
    tuning = Tuning(suite, {})
    while missing := [name for name in tuning.search_trials if name not in tuning.rows]:
        for name in missing:
            trial = tuning.search_trials[name]
            row = planned_row(trial) | landscape(trial) | {"finished_at": datetime(2026, 11, 28, tzinfo=UTC)}
            search.write(Outcome(row | {"provenance": json.dumps(provenance())}), [*GAPS, "indisc_validation"])
            tuning.ended(name, row)
    chosen = {"search": suite.search.model_dump(), "complete": True, "choices": tuning.choices(tuning.rows, made)}
    search.write_text("chosen.json", json.dumps(chosen))
    return store


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Store:
    return searched(tmp_path_factory.mktemp("searched"), SEARCHED)


@pytest.fixture(scope="session")
def found(folder):
    """The settings that the search chose, by method and ratio."""
    return {(each.trial.method, each.trial.ratio): each for each in collect(folder)[0]}


@pytest.fixture(scope="session")
def file(folder, tmp_path_factory) -> str:
    """The same as a file."""
    path = tmp_path_factory.mktemp("settings") / "mine.json"
    update(path, Path(folder.root), drop_stale=False)
    return str(path)


def reporting(file: str | None, **changes) -> dict:
    """A suite that runs at the settings of a file."""
    content = {name: value for name, value in SEARCHED.items() if name not in ("search", "lrs")}
    return content | {"methods": ["original", "retrain", "ft"], "tuned": file} | changes
