from __future__ import annotations

import pyarrow as pa
import pytest

from mubench_ray.report.capacity import capacities, scaling
from mubench_ray.report.load import load
from mubench_ray.results.repetitions import read_trials
from mubench_ray.results.score import SCORES, common
from mubench_ray.trial import canonical

TUNED = canonical(
    {
        "setting": {"task": "digits", "model": "cnn", "sampler": "uniform"},
        "contender": {"method": "ft", "tuned": {"strategy": "random"}},
    }
)


def write(folder, name, rows, over=("ratio", "seed")):
    """Scores of the contender ``ft``, as if `mubench score` had made them from the folder's trials."""
    first = next(row for row in read_trials(folder.store)[0].to_pylist() if row["method"] == "ft")
    rows = [{"configuration": canonical(common(first, over))} | row for row in rows]
    columns = {"metric": name, "task": "digits", "method": "ft", "lr": 5e-4, "hyperparameters": "{}", "trials": 3}
    table = pa.Table.from_pylist([columns | {"sampled": False} | row for row in rows], SCORES)
    folder.store.write_table("scores", f"{name}.parquet", table)


def test_a_capacity_with_its_interval_is_one_row(folder):
    folder.add("ft", test_accuracy=0.5)
    parts = {"capacity": 5.0, "low": 2.0, "high": 5.0}
    write(
        folder, "deletion_capacity", [{"model": "cnn", "part": part, "value": value} for part, value in parts.items()]
    )
    (row,) = capacities(load(folder.root))
    assert (
        row == {"metric": "deletion_capacity", "label": "ft", "task": "digits", "model": "cnn", "method": "ft"} | parts
    )


def test_scores_of_a_task_that_was_cut_belong_to_its_cut(folder):
    folder.add("ft", test_accuracy=0.5, trial='{"subset":300}')
    write(folder, "deletion_capacity", [{"model": "cnn", "part": "capacity", "value": 5.0}])
    (row,) = capacities(load(folder.root))
    assert row["task"] == "digits[300]"


def test_a_method_tuned_at_every_ratio_has_one_capacity(folder):
    for ratio, lr in ((1.0, 1e-5), (5.0, 5e-4), (10.0, 1e-4)):
        folder.add("ft", ratio=ratio, lr=lr, test_accuracy=0.5, configuration=TUNED)
    write(folder, "deletion_capacity", [{"model": "cnn", "part": "capacity", "value": 5.0, "lr": None}])
    (row,) = capacities(load(folder.root))
    assert (row["capacity"], row["label"]) == (5.0, "ft")


def test_no_scores_or_damaged_ones_are_no_capacity(folder):
    folder.add("ft", test_accuracy=0.5)
    assert capacities(load(folder.root)) == []
    folder.store.write_text("scores/deletion_capacity.parquet", "nothing")
    assert capacities(load(folder.root)) == []


def test_scaling_has_a_point_a_model_with_the_fit(folder):
    for model, flos, accuracy in (("cnn", 1e9, 0.9), ("vit", 1e11, 0.7)):
        for seed in range(2):
            folder.add("ft", model=model, seed=seed, flos=flos, forget_accuracy=accuracy + 0.01 * seed)
        folder.add("original", model=model, flos=0.0, forget_accuracy=1.0)
    folder.add("neggrad", model="cnn", flos=1e9, forget_accuracy=0.2)  # of one model only: no scaling
    rows = scaling(load(folder.root))
    assert [(row["label"], row["model"], row["flos"]) for row in rows] == [("ft", "cnn", 1e9), ("ft", "vit", 1e11)]
    assert rows[0]["forget_accuracy"] == pytest.approx(0.905) and rows[0]["slope"] is None
    fit = [{"part": "slope", "value": -0.1}, {"part": "standard_error", "value": 0.02}]
    write(folder, "scaling", fit, over=("model", "seed"))
    assert [(row["slope"], row["standard_error"]) for row in scaling(load(folder.root))] == [(-0.1, 0.02)] * 2
