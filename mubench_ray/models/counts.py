"""How large a model is on a task and what an example costs: counted once, kept in ``counts.json`` beside this file, counted anew where it is missing.

``python -m mubench_ray.models.counts`` counts all of the file again; with ``TASK MODEL`` it adds one. The tests hold the file to the networks.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("counts.json")


class Count(NamedTuple):
    """Parameters of the network; FLOs of one example's forward pass and of its whole training step (forward and backward)."""

    parameters: int
    forward: float
    training: float


@functools.cache
def kept() -> dict[str, dict[str, Count]]:
    """What the file holds: counts by model, then by task; a model's first task is the one it is shown with."""
    content = json.loads(FILE.read_text()) if FILE.is_file() else {}
    return {model: {task: Count(*numbers) for task, numbers in tasks.items()} for model, tasks in content.items()}


@functools.cache
def count(task: str, model: str) -> Count:
    """The count of a model on a task, from the file where it is there."""
    known = kept().get(model, {}).get(task)
    return known if known is not None else recount(task, model)


def recount(task: str, model: str) -> Count:
    """Count now: on the meta device, where nothing is computed, for all models that can run there."""
    from mubench_ray.models.base import MODELS, flos_per_sample, parameters
    from mubench_ray.tasks import TASKS

    on = TASKS.get(task)()
    return Count(parameters(on, MODELS.get(model)), *flos_per_sample(on, MODELS.get(model)))


def write(counts: dict[str, dict[str, Count]]) -> None:
    """Replace the file."""
    lines = (f"  {json.dumps(model)}: {json.dumps(tasks)}" for model, tasks in sorted(counts.items()))
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    counts = {model: dict(tasks) for model, tasks in kept().items()}
    wanted = [tuple(sys.argv[1:])] if sys.argv[1:] else [(t, m) for m, tasks in counts.items() for t in tasks]
    for task, model in wanted:
        counts.setdefault(model, {})[task] = recount(task, model)
    write(counts)
