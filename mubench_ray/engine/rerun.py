"""Run one row of a results folder again, without Ray, and compare."""

from __future__ import annotations

import json
import math
from pathlib import Path

from mubench_ray.console import console, find_row
from mubench_ray.engine.artifacts import ArtifactStore
from mubench_ray.engine.job import default_artifacts
from mubench_ray.engine.run_trial import metric_names, prepare_network_process, run_trial
from mubench_ray.registry import load_plugin
from mubench_ray.trial import Trial

#: What depends on the clock, not on the trial.
TIMED = {"seconds", "retrain_seconds", "retrain_time_efficiency"}


def rerun_trial(folder: str | Path, trial_id: str) -> bool:
    """Run the trial again from the folder's artifacts (made anew where they are gone); prints each number beside the stored one.

    Returns whether status, FLOs and every metric that does not depend on the clock are the same. Nothing is written to the folder's tables.
    """
    folder = Path(folder)
    stored = find_row(folder, trial_id)
    suite = json.loads((folder / "suite.json").read_text()) if (folder / "suite.json").is_file() else {}
    for plugin in suite.get("plugins", []):
        load_plugin(plugin)
    prepare_network_process()
    trial = Trial.model_validate_json(stored["trial"])
    again = run_trial(trial, ArtifactStore(default_artifacts(folder)), suite.get("data_dir")).row
    same = True
    for name in ("status", "flos", *metric_names()):
        if name in TIMED or (stored.get(name) is None and again.get(name) is None):
            continue
        equal = equal_numbers(stored.get(name), again.get(name))
        same &= equal
        console.print(
            f"[{'green' if equal else 'red'}]{'same' if equal else 'DIFFERS'}[/] {name}: {stored.get(name)} | {again.get(name)}",
            highlight=False,
        )
    console.print("The row stands." if same else "The row does not come out again on this machine.")
    return same


def equal_numbers(one: object, other: object) -> bool:
    """Equal, or floats that differ by rounding alone."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other
