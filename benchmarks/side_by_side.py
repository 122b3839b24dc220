"""The same trials the way published code runs them, one Python process a trial, and through the engine; and ways to pack trials on the cores.

Every way starts from the same originals and retrains, so that only unlearning, evaluation and what surrounds them is compared. Rows of the ways are
checked to be the same numbers. Run: python benchmarks/side_by_side.py --trials 24
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import run_suite
from mubench_ray.results.observations import load_results
from mubench_ray.results.store import Store
from mubench_ray.suite import Suite, make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.run_trial import metric_names, prepare_network_process, run_trial


def suite(trials: int, epochs: float, **resources: float) -> Suite:
    """FT on digits with that many seeds, from one original."""
    return make_suite(
        {
            "name": "side",
            "tasks": "digits",
            "models": "cnn-small",
            "methods": {"name": "ft", "epochs": epochs},
            "ratios": 10,
            "seeds": list(range(trials)),
            "training_seeds": 0,
            "lrs": 5e-4,
            "resources": resources,
        }
    )


def one(text: str, artifacts: str, out: str, threads: int) -> None:
    """One trial in this process."""
    prepare_network_process(threads)
    Store(out).write(run_trial(Trial.model_validate_json(text), ArtifactStore(artifacts)), metric_names())


def process_each(texts: list[str], artifacts: str, out: str, at_a_time: int, threads: int) -> None:
    """A Python process a trial."""
    Store(out).create({})

    def start(text: str) -> None:
        command = [sys.executable, __file__, "--one", text, artifacts, out, str(threads)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})

    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(start, texts))


#: Trials at a time and threads of a trial.
PROCESSES = {
    "a process a trial, one after the other, 2 threads": (1, 2),
    "a process a trial, 2 at a time, 1 thread": (2, 1),
}
#: What the suite says of resources.
ENGINE = {
    "engine, 1 at a time, 2 threads": {"cpus": 2},
    "engine, 2 at a time, 1 thread": {"cpus": 1, "concurrency": 2},
    "engine, 4 at a time on half a core each": {"cpus": 0.5, "concurrency": 4},
}


def ways(
    chosen: str, trials: int, epochs: float, texts: list[str], artifacts: str, root: Path
) -> Iterator[tuple[str, float, Path]]:
    """Each way whose name holds ``chosen``, with its seconds and its results folder."""
    for name, (at_a_time, threads) in PROCESSES.items():
        if chosen not in name:
            continue
        out = root / name.replace(" ", "-")
        began = time.perf_counter()
        process_each(texts, artifacts, str(out), at_a_time, threads)
        yield name, time.perf_counter() - began, out
    for name, resources in ENGINE.items():
        if chosen not in name:
            continue
        out = root / name.replace(" ", "-")
        began = time.perf_counter()
        run_suite(suite(trials, epochs, **resources), out=out, artifacts=artifacts)
        yield name, time.perf_counter() - began, out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=float, default=8, help="FT epochs: how long a trial takes")
    parser.add_argument("--ways", default="", help="only ways whose name holds this, such as: 2 at a time")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one(*given.one[:3], int(given.one[3]))
    plan = make_plan(suite(given.trials, given.epochs))
    with tempfile.TemporaryDirectory() as folder:
        artifacts = f"{folder}/artifacts"
        for recipe in plan.recipes.values():
            get_artifact(recipe, ArtifactStore(artifacts))
        texts = [trial.model_dump_json() for trial in plan.trials.values()]
        base, expected = None, None
        print("way | seconds | trials a minute | against the first")
        for name, seconds, out in ways(given.ways, given.trials, given.epochs, texts, artifacts, Path(folder)):
            rows = load_results(out).sort_by("trial_id")
            found = [round(value, 4) for value in rows["test_loss"].to_pylist()]
            base, expected = base or seconds, expected or found
            assert len(found) == given.trials and max(abs(a - b) for a, b in zip(found, expected)) < 1e-3, name
            print(f"{name} | {seconds:.1f} | {60 * given.trials / seconds:.1f} | {base / seconds:.2f} x", flush=True)


if __name__ == "__main__":
    main()
