"""Looking at f_U: what every trial is looked at for, what a suite asks for beside it, and the numbers that follow. Never on the clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.forget.scored import scoring_networks
from mubench_ray.metrics import METRICS, compute_all
from mubench_ray.metrics.base import compute_one, metric_versions, reads
from mubench_ray.observations import OBSERVATIONS, Observation, Seen
from mubench_ray.observations.base import Kind, Trained, refusal
from mubench_ray.observations.evaluation_sets import SETS, evaluation_sets
from mubench_ray.observations.shifted_sets import shifted_means
from mubench_ray.provenance import provenance
from mubench_ray.randomness import derive, torch_generator
from mubench_ray.results.schema import EXAMPLES, RECORD_KEY
from mubench_ray.results.storage import StorageLost
from mubench_ray.status import Status
from mubench_ray.tasks import TASKS
from mubench_ray.trial import Frozen, Recipe, Trial, canonical, digest
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.rows import fault_of
from mubench_ray.trials.unlearning import Prepared
from mubench_ray.trials.versions import trained_on, version_of

#: What the sets are called.
SAID = {
    "forget": "D_F", "retain": "D_R", "validation": "D_V", "test": "D_Test", "forgotten_validation": "D_V's forgotten classes",
    "forgotten_test": "D_Test's forgotten classes", "unseen": "the other half",
}  # fmt: skip
#: Examples of D_R that the examples table keeps.
SAMPLE = 1000


class Wanted(Frozen):
    """An observation that is made of trials beside those that every one has: its name, the version of its code, its options that are not at their default."""

    name: str
    version: int | str = 1
    options: dict[str, Any] = {}

    @classmethod
    def now(cls, name: str, options: Mapping[str, Any] | None = None) -> Wanted:
        """An observation as it is made here and now; raises UnknownName, and MubenchError for an option that it has not."""
        kind = OBSERVATIONS.get(name)
        given = kind(**(options or {})).options.model_dump(mode="json", exclude_defaults=True)
        return cls(name=kind.name, version=version_of(kind, kind.version), options=given)

    @property
    def id(self) -> str:
        """What its records are named by, beside the trial's id."""
        return digest(self.model_dump(), 8)

    @property
    def key(self) -> tuple[str, str, str]:
        """What its records are kept by beside their trial: its name, version and options, as the table has them."""
        return self.name, str(self.version), canonical(self.options)

    @property
    def observation(self) -> Observation:
        """The observation with its options."""
        return OBSERVATIONS.get(self.name)(**self.options)


def refused(trial: Trial, name: str) -> str | None:
    """Why a trial cannot be looked at for an observation, or None."""
    return refusal(OBSERVATIONS.get(name), TASKS.get(trial.task), trial.retrain is not None)


def observations_of(trial: Trial, wanted: Iterable[Wanted] = ()) -> Iterator[Observation]:
    """What a trial is looked at for: what every trial is, as far as its task has it, and what is ``wanted`` of it."""
    for name, kind in OBSERVATIONS:
        if not kind.asked and refused(trial, name) is None:
            yield kind()
    yield from (each.observation for each in possible(trial, wanted))


def possible(trial: Trial, wanted: Iterable[Wanted]) -> list[Wanted]:
    """Those of the wanted observations that a trial can be looked at for."""
    return [each for each in wanted if refused(trial, each.name) is None]


def feeding(wanted: Iterable[Wanted], metrics: Iterable[str]) -> list[Wanted]:
    """Those of the wanted observations that any of the metrics reads."""
    arrays = {array for name in metrics for array in reads(name)}
    return [each for each in wanted if any(map(OBSERVATIONS.get(each.name).is_given, arrays))]


#: Kinds of artifacts in the order in which they are made.
KINDS: tuple[Kind, ...] = ("original", "retrain", "forget-only", "validation-only")


def recipes(trial: Trial, wanted: Iterable[Wanted] = (), also: Iterable[Kind] = ()) -> list[Recipe]:
    """The artifacts that looking at a trial needs (the networks that its D_F is drawn with among them), and those of the kinds that are needed ``also``, in
    the order in which they are made."""
    kinds = {*also, *(kind for each in observations_of(trial, wanted) for kind in each.needs)}
    return [*scoring_networks(trial.forget), *(recipe_of(trial, kind) for kind in KINDS if kind in kinds)]


def recipe_of(trial: Trial, kind: Kind) -> Recipe:
    """The recipe of a network beside f_U."""
    if kind in ("forget-only", "validation-only"):
        return trained_on(trial, kind)
    recipe = trial.original if kind == "original" else trial.retrain
    assert recipe is not None, "refused where there is no retrain"
    return recipe


def seen_of(prepared: Prepared, trial: Trial, artifacts: ArtifactStore, data_dir: str | Path | None = None) -> Seen:
    """What observations look at, of a trial that has unlearned."""
    sets = evaluation_sets(prepared.splits, prepared.forget)

    def artifact(kind: Kind) -> Trained:
        if kind == "retrain" and prepared.retrain is not None:
            return prepared.retrain
        return get_artifact(recipe_of(trial, kind), artifacts, data_dir, prepared.ctx.device)

    return Seen(trial, prepared.ctx, prepared.splits, sets, prepared.retrain, artifact)


@dataclass
class Measured:
    """What every trial is looked at for: arrays by name, and the values of all metrics that read nothing else."""

    arrays: dict[str, Any]
    values: dict[str, float | None]

    @property
    def marks(self) -> list[str]:
        """What must be said beside the values: of how many examples a network gives no finite loss."""
        told = []
        for whose, of in (("", "f_U"), ("retrain_", "the retrain")):
            for name in SETS:
                lost = ~np.isfinite(self.arrays.get(f"{whose}{name}_loss", np.empty(0)))
                if lost.any():
                    told.append(f"{of} has no finite loss on {lost.sum()} of {len(lost)} examples of {SAID[name]}")
        return told


def measure(seen: Seen, costs: Mapping[str, float | None]) -> Measured:
    """What every trial is looked at for, and every metric that follows from it and from what it cost.

    Raises Diverged where a parameter of f_U is not finite, or its loss on all of a set.
    """
    if not all(bool(torch.isfinite(p).all()) for p in seen.ctx.network.parameters()):
        raise Diverged("a parameter of the unlearned network is not finite")
    arrays: dict[str, Any] = {}
    for observation in observations_of(seen.trial):
        arrays |= observation.observe(seen)
    for name, rows in seen.sets.items():
        if len(rows) and not np.isfinite(arrays.get(f"{name}_loss", np.zeros(1))).any():
            raise Diverged(f"the unlearned network has no finite loss on any example of {SAID.get(name, name)}")
    arrays |= {**costs, "ratio": seen.trial.ratio, "seed": seen.trial.seed}
    return Measured(arrays, compute_all(arrays))


def set_sizes(arrays: Mapping[str, Any]) -> str:
    """The column ``set_sizes``: for each ``<set>_correct`` of f_U how many examples it holds."""
    ours = {
        name: len(of) for name, of in arrays.items() if name.endswith("_correct") and not name.startswith("retrain_")
    }
    return json.dumps({name.removesuffix("_correct"): size for name, size in sorted(ours.items())})


def transfer_column(seen: Seen, arrays: Mapping[str, Any]) -> str | None:
    """Means on every shifted set as the JSON of the ``transfer`` column; None where a task has no shifted sets."""
    means = shifted_means(tuple(seen.splits.shifted), arrays)
    return json.dumps(means, sort_keys=True) if means else None


def observe(seen: Seen, wanted: Iterable[Wanted], arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record of every wanted observation, a row of the table ``observations``: what it gave, and the metrics that read any of it (with the ``arrays`` that
    every trial has). What goes wrong in one is its record's reason. Raises StorageLost when artifacts cannot be kept."""
    records, everything = [], dict(arrays)
    for each in wanted:
        record = failed_record(seen.trial, each, None)
        clock = time.perf_counter()
        try:
            found = _given(each.observation, seen)
            everything |= found
            record |= {"arrays": stored(found), "status": Status.OK}
        except StorageLost:
            raise
        except BaseException as error:  # noqa: BLE001 - fault_of raises what ends the process; whatever a plugin's observation raises is its reason
            record["status"], record["error"] = fault_of(error)
        record |= {"seconds": time.perf_counter() - clock, "finished_at": datetime.now(UTC)}
        records.append(record)
    values: dict[str, float | None] = {}
    for record in records:
        given = {array["name"] for array in record["arrays"]}
        own = {}
        for name in METRICS.names():
            if given & reads(name):
                try:
                    own[name] = compute_one(name, everything, values)
                except BaseException as error:  # noqa: BLE001 - as above: a metric that raises is no fault of the trial's
                    status, reason = fault_of(error)
                    record |= {"status": status, "error": f"metric {name}: {reason}", "arrays": []}
                    own = {}
                    break
        record["values"] = json.dumps({name: v for name, v in own.items() if v is not None}, sort_keys=True)
    return records


def failed_record(trial: Trial, each: Wanted, reason: str | None, status: str = Status.FAILED) -> dict[str, Any]:
    """The record of an observation that was not made."""
    return {
        **dict(zip(RECORD_KEY, (trial.id, *each.key))),
        "status": status,
        "error": reason,
        "seconds": None,
        "finished_at": datetime.now(UTC),
        "values": "{}",
        "arrays": [],
        "metric_versions": json.dumps(metric_versions(), sort_keys=True),
        "provenance": json.dumps(provenance()),
    }


def _given(observation: Observation, seen: Seen) -> dict[str, Any]:
    """What an observation gives; raises MubenchError where that is not what it declares, or where it changed f_U."""
    before, device = sums_of(seen.ctx.network), torch.device(seen.ctx.device)
    # What it draws is the same whether it is made with the trial or later, and leaves what comes after it alone.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive("observe", observation.name, seen.trial.seed))
        found = observation.observe(seen)
    if not torch.equal(before, sums_of(seen.ctx.network)):
        raise MubenchError(
            f"observation {observation.name} changed the network that it looks at; let it train a copy (seen.copy())."
        )
    if stray := sorted(name for name in found if not observation.is_given(name)):
        raise MubenchError(
            f"observation {observation.name} gives {stray[0]!r}, which its ``gives`` does not name: {', '.join(observation.gives)}."
        )
    return found


def sums_of(network: nn.Module) -> Tensor:
    """The sum of every parameter and buffer, float64: equal where nothing has changed."""
    return torch.stack([value.sum(dtype=torch.float64).cpu() for value in network.state_dict().values()])


def stored(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arrays as the table ``observations`` keeps them: name, shape, float64 values in C order."""
    found = {name: np.asarray(values, float) for name, values in arrays.items()}
    return [{"name": name, "shape": list(values.shape), "values": values.ravel()} for name, values in found.items()]


def examples_table(trial: Trial, arrays: Mapping[str, np.ndarray]) -> pa.Table:
    """The examples table of a trial, from the ``<set>_<column>`` of its evaluation sets; of D_R at most SAMPLE rows."""
    parts = []
    for split in [name for name in SETS if f"{name}_loss" in arrays]:
        columns = {name: arrays[f"{split}_{name}"] for name in EXAMPLES.names if f"{split}_{name}" in arrays}
        size = len(columns["loss"])
        if split == "retain" and size > SAMPLE:
            keep = torch.randperm(size, generator=torch_generator("sample", split, size))[:SAMPLE].sort().values.numpy()
            columns, size = {name: values[keep] for name, values in columns.items()}, SAMPLE
        named = {
            **{name: pa.nulls(size) for name in EXAMPLES.names},
            "trial_id": pa.array([trial.id] * size),
            "split": pa.array([split] * size).dictionary_encode(),
        } | columns
        parts.append(
            pa.table({field.name: pa.array(named[field.name]).cast(field.type) for field in EXAMPLES}, schema=EXAMPLES)
        )
    return pa.concat_tables(parts)
