"""How many distinct examples a mean stands on, and that its interval knows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from mubench_ray.metrics import METRICS
from mubench_ray.metrics.base import describe_metrics
from mubench_ray.report.counted import distinct_examples
from mubench_ray.report.grouping import group_by
from mubench_ray.report.load import load
from mubench_ray.report.statistics import bootstrap_interval, crossed_interval, with_examples
from mubench_ray.report.summary import summarise
from mubench_ray.results.schema import EXAMPLES
from mubench_ray.status import NO_STEP


def sizes(**of):
    return json.dumps(of)


def rows_of(folder, **wanted):
    rows = summarise(load(folder.root)).to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def examples_of(folder, counts, by=("task", "method")):
    trials = load(folder.root).trials
    return distinct_examples(group_by(trials, list(by)), np.ones(len(trials)), counts, trials).tolist()


def test_the_metrics_that_count_examples_say_so_themselves():
    counted = {name: metric.counts for name, metric in METRICS if metric.counts}
    sets = ("forget", "retain", "test", "validation")
    assert {f"{name}_accuracy": name for name in sets}.items() <= counted.items()
    assert all("correct" in " ".join(METRICS.get(name).needs) for name in counted)


def test_seeds_that_agree_exactly_still_have_a_width(folder):
    """3 seeds count the same 300 examples, and each gets the same 299 right: the width was 0."""
    for seed in range(3):
        folder.add(seed=seed, test_accuracy=299 / 300, set_sizes=sizes(test=300))
    (row,) = rows_of(folder)
    mean = np.array([299 / 300])
    low, high = with_examples(mean, mean, mean, np.array([300.0]))
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx((low[0], high[0]))
    assert row["test_accuracy_low"] < 0.99 < 0.9995 < row["test_accuracy_high"] <= 1.0


def test_a_paired_difference_is_of_the_examples_as_they_are(folder):
    """Same examples, same seed: what was drawn cancels, and only the spread of the differences is left."""
    of = {"set_sizes": sizes(forget=30), "forget_size": 30}
    for seed in range(3):
        folder.add("retrain", seed=seed, forget_accuracy=0.9, **of)
        folder.add(seed=seed, forget_accuracy=0.91 + 0.01 * seed, **of)
    (row,) = rows_of(folder, method="ft")
    low, high = bootstrap_interval(np.array([0.01, 0.02, 0.03]))
    ends = row["forget_accuracy_minus_retrain_low"], row["forget_accuracy_minus_retrain_high"]
    assert ends == pytest.approx((float(low), float(high)))
    assert row["forget_accuracy_high"] - row["forget_accuracy_low"] > 2 * (high - low)


def test_what_counts_no_examples_has_the_interval_of_its_seeds(folder):
    for seed in range(3):
        folder.add(seed=seed, indisc=0.5 + 0.1 * seed, set_sizes=sizes(test=30, forget=30))
    (row,) = rows_of(folder)
    assert (row["indisc_low"], row["indisc_high"]) == pytest.approx(
        tuple(map(float, bootstrap_interval(np.array([0.5, 0.6, 0.7]))))
    )


def test_one_set_counts_once_and_sets_of_several_tasks_add_up(folder):
    for task, size in (("a", 100), ("b", 300)):
        for seed in range(5):
            folder.add(seed=seed, task=task, set_sizes=sizes(test=size))
    assert examples_of(folder, "test") == pytest.approx([100, 300])
    assert examples_of(folder, "test", by=("method",)) == pytest.approx([1 / (0.25 / 100 + 0.25 / 300)])


def test_draws_share_the_examples_that_they_have_in_common_by_chance(folder):
    """The variance of the mean over draws of 0s and 1s, simulated: p (1 - p) over what is said."""
    for seed in range(4):
        folder.add(seed=seed, forget_seed=seed, forget_size=30, retain_size=70)
    (said,) = examples_of(folder, "forget")
    rng = np.random.default_rng(0)
    population = (rng.random((20_000, 100)) < 0.8).astype(float)
    order = rng.random((4, 20_000, 100)).argsort(axis=2)[..., :30]
    means = np.mean([np.take_along_axis(population, draw, axis=1).mean(axis=1) for draw in order], axis=0)
    assert 0.8 * 0.2 / means.var() == pytest.approx(said, rel=0.04)
    assert 30 < said < 4 * 30


def test_ratios_of_one_draw_lie_in_each_other(folder):
    for ratio, size in ((5.0, 50), (10.0, 100)):
        folder.add(ratio=ratio, forget_size=size, retain_size=1000 - size)
    assert examples_of(folder, "forget") == pytest.approx([1 / ((1 / 50 + 1 / 100) / 2)])


def test_a_row_that_does_not_say_how_many_leaves_the_examples_out(folder):
    for seed in range(3):
        folder.add(seed=seed, test_accuracy=0.9, set_sizes=sizes(test=30) if seed else None)
    assert np.isnan(examples_of(folder, "test")).all()
    (row,) = rows_of(folder)
    assert row["test_accuracy_high"] - row["test_accuracy_low"] == pytest.approx(0, abs=1e-12)


def test_crossed_seeds_and_draws_are_named(folder):
    values = np.random.default_rng(0).normal(0.7, 0.05, (4, 3))
    for (seed, draw), value in np.ndenumerate(values):
        folder.add(seed=seed, forget_seed=draw, retention_deviation=value)
    (row,) = rows_of(folder)
    assert (row["retention_deviation_low"], row["retention_deviation_high"]) == pytest.approx(crossed_interval(values))
    assert row["interval_over"] == "training seed and forget draw, crossed"


def test_of_fewer_than_three_draws_the_estimate_is_shown_and_no_interval_claimed(folder):
    """5 seeds crossed with 2 draws: half the width was 7.2 of a score that is .94."""
    values = np.random.default_rng(0).normal(0.94, 0.01, (5, 2))
    for (seed, draw), value in np.ndenumerate(values):
        folder.add(seed=seed, forget_seed=draw, test_accuracy=value, set_sizes=sizes(test=100))
    (row,) = rows_of(folder)
    assert row["test_accuracy"] == pytest.approx(values.mean())
    assert row["test_accuracy_low"] is row["test_accuracy_high"] is None
    assert "fewer than 3" in row["interval_over"]


def test_of_an_earlier_release_the_stored_examples_say_how_many(folder):
    """Of D_Test and D_V, by a trial whose numbers count; the sizes of D_F and D_R stand in its rows."""
    folder.add("neggrad", status="truncated", error=NO_STEP, forget_size=20, retain_size=80)
    trial_ids = [folder.add(seed=seed, test_accuracy=1.0, forget_size=20, retain_size=80) for seed in range(3)]
    split = pa.array(["test"] * 40 + ["validation"] * 10 + ["retain"] * 5).dictionary_encode()
    columns = {"trial_id": [trial_ids[0]] * 55, "split": split, "index": range(55)}
    table = pa.table(
        {field.name: pa.array(columns.get(field.name, [None] * 55)).cast(field.type) for field in EXAMPLES},
        schema=EXAMPLES,
    )
    folder.store.write_table("examples", f"{trial_ids[0]}.parquet", table)
    found = [examples_of(folder, name)[-1] for name in ("test", "validation", "forget", "retain")]
    assert found == pytest.approx([40, 10, 20, 80])
    (row,) = rows_of(folder, method="ft")
    assert row["test_accuracy_low"] == pytest.approx(0.025 ** (1 / 40))


def test_a_folder_of_an_earlier_release_does_not_say_which_metrics_count(folder):
    """Two seeds with no example of 6 right each: the interval was [0, 0]."""
    for seed in range(2):
        folder.add(seed=seed, forget_accuracy=0.0, forget_size=6)
    declared = {
        name: {key: entry[key] for key in entry if key != "counts"} for name, entry in describe_metrics().items()
    }
    folder.store.write_text("metrics.json", json.dumps(declared))
    (row,) = rows_of(folder)
    assert row["forget_accuracy_low"] == 0.0 and row["forget_accuracy_high"] == pytest.approx(1 - 0.025 ** (1 / 6))
