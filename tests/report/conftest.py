"""Results folders written row by row, with numbers that a test can compute by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mubench_ray.metrics.base import METRICS as REGISTERED
from mubench_ray.metrics.base import describe_metrics
from mubench_ray.results.schema import CURVE_METRICS, EXAMPLES
from mubench_ray.results.store import Outcome, Store

METRICS = [
    "flos_share",
    "forget_accuracy",
    "forget_retention",
    "indisc",
    "retain_accuracy",
    "retention_deviation",
    "test_accuracy",
]


class Folder:
    """A results folder under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root)
        self.store.create({"suite": "hand-made", "trials": 0, "provenance": {"numpy": "2"}})
        self.store.write_text("metrics.json", json.dumps(describe_metrics()))
        self.count = 0

    def add(
        self, method: str = "ft", curve: list[dict] | None = None, examples: dict | None = None, **columns: Any
    ) -> str:
        """Write one trial; returns its id. ``examples``: {index: (correct, confidence)} of D_F."""
        trial_id = f"{self.count:016x}"
        self.count += 1
        seed = columns.get("seed", 0)
        row = {
            "trial_id": trial_id,
            "task": "digits",
            "model": "cnn",
            "method": method,
            "ratio": 10.0,
            "seed": seed,
            "lr": None if method in ("original", "retrain") else 5e-4,
            "status": "ok",
            "training_seed": seed,
            "forget_seed": 42,
            "sampler": "class_balanced",
            "after": "",
            "hyperparameters": "{}",
            "options": "{}",
            "uses_validation": False,
            "trial": json.dumps({"subset": None}),
            "provenance": "{}",
        }
        points = [
            {"trial_id": trial_id, "flos": point["share"], "seconds": 0.0, "retrain_share": point["share"]}
            | {name: point.get(name, 0.5) for name in CURVE_METRICS}
            for point in curve or []
        ]
        table = None
        if examples:
            table = pa.Table.from_pylist(
                [
                    {"trial_id": trial_id, "split": "forget", "index": index, "label": 3, "loss": 0.0}
                    | {"correct": float(correct), "confidence": float(confidence)}
                    for index, (correct, confidence) in examples.items()
                ],
                EXAMPLES,
            )
        others = [name for name in columns if name.startswith("their_") or name in REGISTERED]
        metrics = list(dict.fromkeys([*METRICS, *others]))
        self.store.write(Outcome(row | columns, points, table), metrics)
        return trial_id

    def controls(self, seeds: tuple[int, ...] = (0, 1, 2), **columns: Any) -> None:
        """A retrain (D_Test .9, D_F .8, D_R 1 and .01 more a seed on D_F) and an original of each seed."""
        for seed in seeds:
            same = {"retain_accuracy": 1.0, "test_accuracy": 0.9, "seed": seed} | columns
            self.add("retrain", forget_accuracy=0.8 + 0.01 * seed, retention_deviation=0.0, flos_share=1.0, **same)
            self.add("original", forget_accuracy=1.0, retention_deviation=0.25, flos_share=0.0, **same)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty results folder to fill."""
    return Folder(tmp_path / "results")
