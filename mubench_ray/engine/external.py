"""`mubench eval`: a network that was unlearned elsewhere as a row beside a suite's own. It runs here and now, without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mubench_ray.engine.plan import Combination, combinations, make_plan, seed_pairs, split_name, wanted_by
from mubench_ray.engine.run import describe_plan, enter
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.results.locks import exclusive
from mubench_ray.results.plans import read_plan
from mubench_ray.results.storage import absolute
from mubench_ray.results.store import Outcome, Store
from mubench_ray.status import is_usable
from mubench_ray.suite import Suite
from mubench_ray.trial import own_name
from mubench_ray.trials.artifacts import ArtifactStore, default_artifacts
from mubench_ray.trials.external import evaluate_external, external_trial, listed_set
from mubench_ray.trials.run_trial import metric_names, prepare_network_process


def evaluate(
    suite: Suite,
    network: str | Path,
    listed: str | Path,
    out: str | Path | None = None,
    artifacts: str | Path | None = None,
    task: str | None = None,
    model: str | None = None,
    training_seed: int | None = None,
) -> tuple[Outcome, str]:
    """Hold a ``network`` (a file of weights, or a folder) against the originals and retrains of a suite, on the forget set that a file of ids names, and write
    its row into the suite's results folder; gives the outcome and that folder.

    ``task``, ``model`` and ``training_seed`` choose among those of the suite, where it has several. Raises MubenchError where they leave a choice, and for
    what could not be a row at all.
    """
    plan = make_plan(suite)
    chosen = _chosen(suite, task, model)
    seeds = list(dict.fromkeys(seed for _, seed in seed_pairs(suite)))
    if training_seed is not None and training_seed not in seeds:
        raise SuiteError(
            f"{suite.name}: trains no original with seed {training_seed}, but with {', '.join(map(str, seeds))}."
        )
    if suite.halves:
        raise SuiteError(
            f"{suite.name}: a network from elsewhere saw all of D, and the suite's originals saw halves of it."
        )
    seed = seeds[0] if training_seed is None else training_seed
    sets = chosen.forget_sets
    like = chosen.trial(sets[0], seed, seed, chosen.given()[0])
    forget, split = listed_set(listed, like, suite.data_dir, sets)
    trial = external_trial(like, forget, network)
    store = Store(absolute(out or Path("results") / suite.name))
    store.check()
    made = ArtifactStore(absolute(artifacts or default_artifacts(store.place.address)))
    prepare_network_process(max(1, int(suite.resources.cpus)))
    device = "cuda" if suite.resources.gpus and torch.cuda.is_available() else "cpu"
    with exclusive(store.place):
        outcome = evaluate_external(trial, network, made, suite.data_dir, device, wanted_by(suite))
        if not is_usable(outcome.row):
            # It can be given again as it should be, and no row that failed stays in the suite's results.
            raise MubenchError(f"{network}: {outcome.row['error']}")
        recipes = [recipe.id for recipe in (trial.original, trial.retrain) if recipe is not None]
        told = {"weights": trial.hyperparameters["weights"], "forget": split.manifest["sha256"]}
        earlier = (read_plan(store) or {}).get("left_out", [])
        entry = describe_plan(plan) | {
            "planned": 1,
            "recipes": recipes,
            "trials": [trial.id],
            "left_out": earlier,
            "observations": [],
        }
        enter(store, plan, entry | {"suite": entry["suite"] | {"external": told}})
        name = f"splits/{split_name(trial)}.json"
        if not store.place.exists(name):
            store.write_text(name, json.dumps({"task": own_name(trial.task), "subset": trial.subset, **split.manifest}))
        store.write(outcome, metric_names())
    return outcome, store.place.address


def _chosen(suite: Suite, task: str | None, model: str | None) -> Combination:
    found = {
        (each.task.label, each.model.label, each.model.checkpoint, each.model.original): each
        for each in combinations(suite)
    }
    fitting = [
        each
        for (named, network, *_), each in found.items()
        if (task is None or named == task or each.task.name == task or named.startswith(f"{task}:"))
        and (model is None or network == model or each.model.name == model)
    ]
    if len(fitting) != 1:
        there = "; ".join(f"{each.task.label} x {each.model.label}" for each in found.values())
        raise SuiteError(
            f"{suite.name}: {len(fitting)} of its combinations fit; choose one by --task and --network: {there}."
        )
    return fitting[0]
