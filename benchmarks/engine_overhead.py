"""The same trials once through the engine and once as plain calls of run_trial in as many processes: what the engine costs, as a ratio.

Both sides start from the same artifacts, both pay for starting their processes and importing torch. Run: python benchmarks/engine_overhead.py --trials 100
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.run import run_suite
from mubench_ray.results.observations import load_results
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.run_trial import metric_names, prepare_network_process, run_trial


def bare(trials: list[str], artifacts: str, out: str) -> None:
    """One process: its share of the trials, one after the other."""
    prepare_network_process()
    for text in trials:
        Store(out).write(run_trial(Trial.model_validate_json(text), ArtifactStore(artifacts)), metric_names())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=8, help="FT epochs: how long a trial takes")
    given = parser.parse_args()
    suite = make_suite(
        {
            "name": "overhead",
            "tasks": "digits",
            "models": "cnn-small",
            "methods": {"name": "ft", "epochs": given.epochs},
            "ratios": 10,
            "seeds": list(range(given.trials)),
            "training_seeds": 0,
            "lrs": 5e-4,
            "resources": {"concurrency": given.processes},
        }
    )
    plan = make_plan(suite)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = f"{folder}/artifacts"
        for recipe in plan.recipes.values():
            get_artifact(recipe, ArtifactStore(artifacts))
        texts = [trial.model_dump_json() for trial in plan.trials.values()]

        began = time.perf_counter()
        Store(f"{folder}/bare").create({})
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=bare, args=(texts[start :: given.processes], artifacts, f"{folder}/bare"))
            for start in range(given.processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        plain = time.perf_counter() - began

        began = time.perf_counter()
        run_suite(suite, out=f"{folder}/engine", artifacts=artifacts)
        engine = time.perf_counter() - began

        rows = load_results(f"{folder}/engine")
        inside = sum(rows["wall_seconds"].to_pylist()) / given.processes
        first, last = min(rows["started_at"].to_pylist()), max(rows["finished_at"].to_pylist())
        assert rows.num_rows == len(texts) == len(list(Path(f"{folder}/bare/trials").glob("*.parquet")))
    running = (last - first).total_seconds()
    print(f"{len(texts)} trials of {inside * given.processes / len(texts):.2f} s, {given.processes} at a time")
    print(f"plain processes {plain:.1f} s | engine {engine:.1f} s | ratio {engine / plain:.3f}")
    print(
        f"engine: {engine - running:.1f} s before the first and after the last trial, {running - inside:.1f} s between trials"
    )


if __name__ == "__main__":
    main()
