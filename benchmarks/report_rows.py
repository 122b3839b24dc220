"""How long the report takes for a large results folder.

    python benchmarks/report_rows.py --rows 100000

Generates a folder of made-up trials (every one with a curve), compacted into a few Parquet files as a large run is,
writes its report and prints the seconds of each step. The numbers in the rows mean nothing; their shape is that of a
suite: tasks x models x methods x ratios x seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.metrics.base import describe_metrics
from mubench_ray.report.page import render
from mubench_ray.report.report import make_report
from mubench_ray.report.sections import blocks
from mubench_ray.report.write import csv, summary_rows, write_report
from mubench_ray.results.repetitions import configured
from mubench_ray.results.schema import CURVE_METRICS, CURVES, trials_schema
from mubench_ray.results.store import Store

METHODS = (
    "retrain",
    "original",
    "ft",
    "neggrad",
    "neggrad_plus",
    "rand_label",
    "bad_t",
    "scrub",
    "salun",
    "cf_k",
    "eu_k",
    "iu",
    "msg",
    "ct",
    "prmq",
    "kde",
)
METHODS += ("cfw", "fcs", "srl", "rni", "ff", "lora_ft")
METRICS = (
    "flos_share",
    "forget_accuracy",
    "forget_loss",
    "forget_retention",
    "indisc",
    "indisc_validation",
    "retain_accuracy",
    "retain_loss",
)
METRICS += (
    "retain_retention",
    "retention_deviation",
    "retrain_time_efficiency",
    "test_accuracy",
    "test_loss",
    "test_retention",
    "u_mia",
)
METRICS += ("u_mia_validation", "validation_accuracy")
FILES = 8


def generate(root: Path, rows: int, seeds: int, ratios: int, tasks: int, models: int) -> None:
    """Write a results folder of at least ``rows`` trials; lrs are added until there are enough."""
    rng = np.random.default_rng(0)
    cell = len(METHODS) * ratios * seeds * tasks * models
    lrs = [1e-5 * 2**i for i in range(max(1, math.ceil(rows / (cell * (len(METHODS) - 2) / len(METHODS)))))]
    axes = np.meshgrid(*(np.arange(n) for n in (tasks, models, len(METHODS), ratios, seeds, len(lrs))), indexing="ij")
    task, model, method, ratio, seed, lr = (axis.ravel() for axis in axes)
    keep = (method > 1) | (lr == 0)
    task, model, method, ratio, seed, lr = (axis[keep] for axis in (task, model, method, ratio, seed, lr))
    size = len(task)
    names = np.array(METHODS)[method]
    status = np.where(method > 1, rng.choice(["ok", "truncated", "failed"], size, p=[0.9, 0.09, 0.01]), "ok")
    skill = 0.9 - 0.01 * ratio - 0.004 * method + 0.01 * rng.normal(size=size)
    accuracy = {
        "test_accuracy": skill,
        "forget_accuracy": skill + 0.02,
        "retain_accuracy": skill + 0.08,
        "validation_accuracy": skill,
    }
    values = {name: np.abs(rng.normal(0.5, 0.1, size)) for name in METRICS} | accuracy
    values["flos_share"] = np.where(method == 0, 1.0, np.where(method == 1, 0.0, rng.uniform(0.01, 1, size)))
    for name in METRICS:
        values[name] = np.where(status == "failed", np.nan, values[name])
    columns = {
        "trial_id": [f"{i:016x}" for i in range(size)],
        "task": np.char.add("task-", task.astype(str)),
        "model": np.char.add("model-", model.astype(str)),
        "method": names,
        "ratio": ratio + 1.0,
        "seed": seed,
        "lr": pa.array(np.where(method > 1, np.array(lrs)[lr], np.nan), from_pandas=True),
        "status": status,
        "error": pa.array(np.where(status == "failed", "RuntimeError: made up", None), pa.string()),
        "training_seed": seed,
        "forget_seed": np.full(size, 42),
        "sampler": ["class_balanced"] * size,
        "hyperparameters": ["{}"] * size,
        "options": ["{}"] * size,
        "after": [""] * size,
        "uses_validation": names == "scrub",
        "trial": ['{"subset":null}'] * size,
        "provenance": ["{}"] * size,
        **{name: pa.array(column, from_pandas=True) for name, column in values.items()},
    }
    schema = trials_schema(METRICS)
    trials = pa.table(
        {
            field.name: pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(size, field.type)
            for field in schema
        },
        schema,
    )
    shares = np.array([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0])
    curve = {
        "trial_id": np.repeat(columns["trial_id"], len(shares)),
        "flos": np.tile(shares, size),
        "seconds": np.tile(shares, size),
    }
    curve["retrain_share"] = np.tile(shares, size)
    curve |= {name: rng.uniform(0.5, 1, size * len(shares)) for name in CURVE_METRICS}
    Store(root).create({"suite": "generated", "trials": size, "provenance": {"generated": "yes"}})
    Store(root).write_text("metrics.json", json.dumps(describe_metrics()))
    for table, content in (("trials", configured(trials, Store(root))), ("curves", pa.table(curve, CURVES))):
        step = -(-len(content) // FILES)
        for part in range(FILES):
            pq.write_table(content.slice(part * step, step), root / table / f"part-{part}.parquet")


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ratios", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="write the folder here and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary) / "results"
        generate(root, options.rows, options.seeds, options.ratios, options.tasks, options.models)
        figures: dict[str, float] = {"rows": Store(root).read("trials", columns=["trial_id"]).num_rows}

        def timed(name: str, call, *arguments):
            start = time.perf_counter()
            result = call(*arguments)
            figures[name] = round(time.perf_counter() - start, 2)
            return result

        report = timed("compute_seconds", make_report, root)
        figures["configurations"] = len(report.board)
        figures["csv_bytes"] = len(timed("csv_seconds", csv, report.board))
        shown = timed("sections_seconds", blocks, report)
        figures["page_bytes"] = len(timed("page_seconds", render, report, shown).encode())
        timed("summary_rows_seconds", summary_rows, root)
        timed("write_report_seconds", write_report, root)
        json.dump(figures, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
