"""Thousands of trials of a few milliseconds through the real engine: seconds a trial, the driver's memory and the store's size at each count.

The trials are real: a linear network on 120 tiny images is unlearned by one epoch of FT and evaluated. What they cost by themselves is measured
with plain calls in the same run and taken off. Run: python benchmarks/scale.py 1000 5000 20000
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from mubench_ray.models import ImageModel, register
from mubench_ray.tasks import Card, Examples, ImageClassification, Splits, task
from mubench_ray.trial import Training


@task("scale-dots")
class Dots(ImageClassification):
    """120 images of 2 x 2 random pixels and two classes."""

    card = Card("dots", "made here", "none", "none", "1", {"train": 120, "test": 8})
    classes, channels, size, mean, std = 2, 1, 2, (0.5,), (0.3,)
    training = Training(epochs=2)

    def load(self) -> Splits:
        """Random pixels, labelled by the first."""

        def part(size: int, seed: int) -> Examples:
            image = torch.randint(
                0, 256, (size, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
            )
            return Examples({"image": image, "labels": (image[:, 0, 0, 0] > 127).long()}, torch.arange(size))

        return Splits(part(120, 0), part(8, 1), part(8, 2))


class Linear(ImageModel):
    """One linear layer."""

    family = "linear"
    citation = "none"

    def build(self, task):
        """4 pixels to 2 classes."""

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head = nn.Linear(4, 2)

            def forward(self, pixel_values):
                return self.head(pixel_values.flatten(1))

        return Net()


register("scale-linear", Linear())


def suite(trials: int):
    """FT at one ratio with that many seeds, from one original."""
    from mubench_ray.suite import make_suite

    return make_suite(
        {
            "name": "scale",
            "tasks": "scale-dots",
            "models": "scale-linear",
            "methods": {"name": "ft", "epochs": 1},
            "ratios": 5,
            "seeds": list(range(trials)),
            "training_seeds": 0,
            "lrs": 1e-3,
            "plugins": str(Path(__file__).resolve()),
            "resources": {"concurrency": 2},
        }
    )


def bare(count: int) -> float:
    """Seconds of one trial called plainly and written, without the engine."""
    from mubench_ray.engine.plan import make_plan
    from mubench_ray.results.store import Store
    from mubench_ray.trials.artifacts import ArtifactStore
    from mubench_ray.trials.run_trial import metric_names, prepare_network_process, run_trial

    prepare_network_process()
    with tempfile.TemporaryDirectory() as folder:
        Store(folder).create({})
        trials = list(make_plan(suite(count + 5)).trials.values())
        for number, trial in enumerate(trials):
            if number == 5:
                began = time.perf_counter()
            Store(folder).write(run_trial(trial, ArtifactStore(f"{folder}/artifacts")), metric_names())
        return (time.perf_counter() - began) / count


def measure(trials: int) -> None:
    """Run one count in this process and print its line."""
    from mubench_ray.engine.run import run_suite
    from mubench_ray.results.observations import load_results

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = run_suite(suite(trials), out=folder)
        took = time.perf_counter() - began
        began = time.perf_counter()
        rows = load_results(folder)
        reading = time.perf_counter() - began
        assert done.complete and set(rows["status"].to_pylist()) == {"ok"}, rows["error"].to_pylist()[:3]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        tables = [path for name in ("trials", "curves", "examples") for path in (Path(folder) / name).iterdir()]
        size = sum(path.stat().st_size for path in tables) / 2**20
        print(f"{trials},{took:.2f},{memory:.3f},{size:.1f},{len(tables)},{reading:.2f}", flush=True)


def main() -> None:
    """Each count in a process of its own, so that its memory is its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("counts", type=int, nargs="*", default=[1000, 5000, 20000])
    parser.add_argument(
        "--plain", type=int, default=200, help="trials that are called plainly, after 5 that do not count"
    )
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return measure(given.one)
    alone = bare(given.plain)
    print(f"one trial by itself, written: {1000 * alone:.1f} ms; 2 at a time: {500 * alone:.1f} ms a trial")
    print("trials | whole run s | ms a trial | of it engine ms | driver GiB | tables MiB | files | read s")
    for count in given.counts:
        line = subprocess.run(
            [sys.executable, __file__, "--one", str(count)], check=True, capture_output=True, text=True
        ).stdout
        trials, took, memory, size, files, reading = line.strip().splitlines()[-1].split(",")
        each = 1000 * float(took) / int(trials)
        print(
            f"{trials} | {took} | {each:.1f} | {each - 500 * alone:.1f} | {memory} | {size} | {files} | {reading}",
            flush=True,
        )


if __name__ == "__main__":
    main()
