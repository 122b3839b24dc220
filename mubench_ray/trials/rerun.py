"""Run one row of a results folder again, without Ray, and compare."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mubench_ray.forget import SAMPLERS
from mubench_ray.methods import METHODS
from mubench_ray.metrics.base import timed
from mubench_ray.models import MODELS
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.results.observations import shown_of
from mubench_ray.results.plugins import plugins_told
from mubench_ray.results.store import Store
from mubench_ray.tasks import TASKS
from mubench_ray.trial import Probes, Trial, canonical
from mubench_ray.trials.artifacts import ArtifactStore, default_artifacts
from mubench_ray.trials.observing import Wanted
from mubench_ray.trials.run_trial import metric_names, prepare_network_process, run_trial
from mubench_ray.trials.versions import versioned


@dataclass(frozen=True)
class Compared:
    """One column of a row: as it is stored and as it came out now."""

    name: str
    stored: Any
    again: Any

    @property
    def same(self) -> bool:
        """Equal, or floats that differ by rounding alone."""
        if isinstance(self.stored, float) and isinstance(self.again, float):
            return math.isclose(self.stored, self.again, rel_tol=1e-9, abs_tol=1e-12)
        return self.stored == self.again


def rerun_trial(folder: str | Path, stored: dict[str, Any]) -> list[Compared]:
    """Run the trial of a stored row again from the folder's artifacts (made anew where they are gone).

    Returns status, FLOs and every metric that does not depend on the clock and is known on either side, those of its observations among them, and first the
    versions, where the row was made by others than those of here (another code of its method, say). Nothing is written to the folder's tables. No plugin of
    its suite is loaded: raises UnknownName, naming them, for a row of a task, model, method or sampler that is not registered here.
    """
    folder = Path(folder)
    suite = Store(folder).read_object("suite.json")
    trial = Trial.model_validate_json(stored["trial"])
    records = shown_of(Store(folder), stored["trial_id"])
    with plugins_told(folder):
        for record in records:
            OBSERVATIONS.canonical(record["observation"])
        named = ((TASKS, trial.task), (MODELS, trial.model), (METHODS, trial.method), (SAMPLERS, trial.forget.sampler))
        for registry, name in named:
            registry.canonical(name)
    prepare_network_process()
    # What is made here is of the versions here: as such it may be kept beside the artifacts that are there.
    now = versioned(trial)
    wanted = [Wanted.now(record["observation"], json.loads(record["options"])) for record in records]
    wanted += [Wanted.now(name, options) for name, options in observations_of_probes(trial.probes).items()]
    stored = stored | {name: value for record in records for name, value in json.loads(record["values"]).items()}
    again = run_trial(now, ArtifactStore(default_artifacts(folder)), suite.get("data_dir"), wanted=wanted).values
    names = [name for name in ("status", "flos", *metric_names()) if not timed(name)]
    compared = [Compared(name, stored.get(name), again.get(name)) for name in names]
    if (theirs := versions_told(trial)) != (ours := versions_told(now)):
        compared.insert(0, Compared("versions above 1", theirs, ours))
    return [each for each in compared if each.stored is not None or each.again is not None]


def versions_told(trial: Trial) -> str:
    """The versions that a trial is made of, those of the network that scores D for its forget set among them."""
    network = trial.forget.scored_by
    return canonical(trial.versions | ({"scoring network": network.versions} if network and network.versions else {}))


def observations_of_probes(probes: Probes) -> dict[str, dict[str, Any]]:
    """What a trial of an earlier release was looked at for, as the observations that it became, with their options."""
    found = {} if probes.relearning is None else {"relearn_benign": probes.relearning.model_dump()}
    return found | ({"knowledge_gap": {}} if probes.knowledge_gap else {})
