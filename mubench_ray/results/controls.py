"""Hold the metrics and scores of a results folder to its controls."""

from __future__ import annotations

import json

from mubench_ray.metrics.controls import gate, gate_groups
from mubench_ray.results.repetitions import named, read_trials
from mubench_ray.results.score import named_scores, read_scores
from mubench_ray.results.store import Store


def hold_to_controls(store: Store) -> list[str]:
    """Write ``controls.json``: what the controls say of every metric and score in each (task, model, ratio). Returns what
    of the rows is left out, a line each."""
    (trials, refused), scores = read_trials(store), read_scores(store)
    verdicts = gate(named(trials).to_pylist(), declared=store.read_object("metrics.json"))
    verdicts += gate_groups(named_scores(scores, trials["configuration"].to_pylist()))
    store.write_text("controls.json", json.dumps({"verdicts": verdicts}))
    return refused
