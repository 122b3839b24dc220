"""What Ray Train adds to a short trial that two workers share: the same trials in one process, by workers started anew for each, by workers that stay.

Run: python benchmarks/train_overhead.py [--trials 6]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from mubench_ray.engine.cluster import cluster
from mubench_ray.engine.job import Job
from mubench_ray.engine.plan import make_plan
from mubench_ray.engine.train import WorkerGroup
from mubench_ray.engine.worker import Worker
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite


def main() -> None:
    """Print seconds a trial and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument(
        "--anew", type=int, default=2, help="of them by workers started anew for each; 0 leaves that out"
    )
    given = parser.parse_args()
    trials = given.trials
    suite = make_suite(
        {
            "name": "train_overhead",
            "tasks": {"name": "digits", "subset": 200},
            "models": "cnn-small",
            "methods": {"name": "ft", "epochs": 1},
            "ratios": 10,
            "seeds": list(range(trials + 1)),
            "training_seeds": 0,
            "lrs": 1e-3,
            "training": {"epochs": 1},
            "resources": {"workers": 2},
        }
    )
    plan = make_plan(suite)
    jobs = {name: Job("artifact", recipe) for name, recipe in plan.recipes.items()}
    jobs |= {name: Job("trial", trial) for name, trial in plan.trials.items()}

    with tempfile.TemporaryDirectory() as folder, cluster(None, cpus=2):
        artifacts = str(Path(folder) / "artifacts")

        def worker(name: str) -> Worker:
            out = Path(folder) / name
            Store(out).create({"suite": suite.name})
            return Worker(frozenset(), str(out), artifacts, None, (), "cpu", 1, 1, workers={"cnn-small": 2})

        def run(runner: Worker | WorkerGroup | Anew, ids: list[str]) -> float:
            """Seconds of all but the first, which also loads the data."""
            started = 0.0
            for number, name in enumerate(ids):
                if number == 1:
                    started = time.perf_counter()
                result = runner.run(jobs[name])
                if result["status"] not in ("ok", "truncated"):
                    raise SystemExit(f"{name}: {result}")
            return (time.perf_counter() - started) / (len(ids) - 1)

        one = worker("one")
        one.prepare()
        for recipe in plan.recipes:
            one.run(jobs[recipe])
        alone = run(one, list(plan.trials))

        class Anew:
            """A Train run for every trial."""

            def run(self, job: Job) -> dict:
                group = WorkerGroup(worker("anew"), 2, suite.resources)
                result = group.run(job)
                group.close()
                return result

        anew = run(Anew(), list(plan.trials)[: given.anew + 1]) if given.anew else None
        group = WorkerGroup(worker("kept"), 2, suite.resources)
        begun = time.perf_counter()
        kept = run(group, list(plan.trials))
        first = time.perf_counter() - begun - kept * trials
        ended = time.perf_counter()
        group.close()
        closing = time.perf_counter() - ended
    print(f"one process            {alone:7.3f} s a trial")
    if anew is not None:
        print(f"2 workers, started anew {anew:6.3f} s a trial: {anew / alone:6.1f} x")
    print(
        f"2 workers that stay    {kept:7.3f} s a trial: {kept / alone:6.1f} x, after {first:.1f} s once and {closing:.1f} s to end"
    )


if __name__ == "__main__":
    main()
