"""Intervals of group metrics: by hand where there is a formula, by simulation where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from mubench_ray.errors import MubenchError
from mubench_ray.metrics.group import GROUP_METRICS, Part, compute_group, group_metric
from mubench_ray.metrics.jackknife import BLOCKS, PAIRED, blocks, intervals


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """A registry that forgets what a test adds to it."""
    GROUP_METRICS.names()
    for table in ("_things", "_spellings"):
        monkeypatch.setattr(GROUP_METRICS, table, dict(getattr(GROUP_METRICS, table)))


def registered_mean(**parts):
    @group_metric("mean_loss", over=["seed"], parts=parts or {"value": Part("lower")}, cites="a test")
    def mean_loss(test_loss: np.ndarray, scale: float = 1.0) -> dict[str, float]:
        """Mean."""
        return dict.fromkeys(parts or ["value"], scale * test_loss.mean())

    return GROUP_METRICS.get("mean_loss")


def of(metric, observed, options=None):
    values, _ = compute_group(metric.name, observed, options)
    return intervals(metric, observed, values, options or {})


def test_of_a_mean_it_is_students():
    """One model a training, ten trainings: the jackknife's variance of a mean is the textbook's, exactly."""
    loss = np.random.default_rng(0).exponential(1, 10)
    found = of(registered_mean(), {"test_loss": loss, "trial_fold": np.arange(10.0), "oracle_fold": []}, {"scale": 2.0})
    arm = 2 * t.ppf(0.975, 9) * loss.std(ddof=1) / np.sqrt(10)
    assert (found["value"].low, found["value"].high) == pytest.approx((2 * loss.mean() - arm, 2 * loss.mean() + arm))
    assert found["value"].over == "10 trainings, by a jackknife of 10 blocks"


def test_models_of_one_training_stay_together():
    """As if there were one model a training, their mean: three times the models are not three times the evidence."""
    once, fold = np.random.default_rng(1).normal(1, 1, 8), np.repeat(np.arange(8.0), 3)
    alone = of(
        registered_mean(value=Part("neither", low=-9)),
        {"test_loss": once, "trial_fold": np.arange(8.0), "oracle_fold": []},
    )
    thrice = of(
        GROUP_METRICS.get("mean_loss"), {"test_loss": np.repeat(once, 3), "trial_fold": fold, "oracle_fold": []}
    )
    assert (thrice["value"].low, thrice["value"].high) == pytest.approx((alone["value"].low, alone["value"].high))


@pytest.mark.parametrize(
    ("count", "number", "size"),
    [(4, 4, 1), (10, 10, 1), (11, 5, 2), (13, 6, 2), (PAIRED, 8, 2), (33, 8, 4), (64, 8, 8)],
)
def test_blocks_are_of_one_size(count, number, size):
    """Else unlike numbers of models are left, which alone moves a number like KLoM."""
    folds = np.arange(count) * 3.0 + 1
    parts = blocks(folds)
    assert [len(part) for part in parts] == [size] * number and number <= BLOCKS
    assert np.concatenate(parts).tolist() == folds[: number * size].tolist()


@pytest.mark.parametrize("count", [11, 13, 17])
def test_trainings_in_no_block_count_as_well(count):
    """Of a mean, the squared error is its variance on average, whatever is left over."""
    metric, squares = registered_mean(value=Part("neither", low=-99)), []
    for loss in np.random.default_rng(count).normal(size=(1500, count)):
        found = of(metric, {"test_loss": loss, "trial_fold": np.arange(count), "oracle_fold": []})["value"]
        assert found.low is not None and found.high is not None
        arm = (found.high - found.low) / 2
        squares.append((arm / t.ppf(0.975, len(blocks(np.arange(count))) - 1)) ** 2)
    assert np.mean(squares) == pytest.approx(1 / count, rel=0.06)


def test_an_interval_ends_where_the_range_does():
    found = of(
        registered_mean(value=Part("lower", high=1.0)),
        {"test_loss": np.array([1.0, 1, 1, 0.9]), "trial_fold": np.arange(4.0), "oracle_fold": []},
    )
    assert found["value"].high == 1.0 and found["value"].low is not None and found["value"].low < 0.95


@pytest.mark.parametrize(
    ("loss", "why"), [([1.0, 2.0, 3.0], "fewer than 4 trainings"), ([1.0] * 8, "does not move with models left out")]
)
def test_what_cannot_be_told_is_not_claimed(loss, why):
    observed = {"test_loss": np.array(loss), "trial_fold": np.arange(float(len(loss))), "oracle_fold": []}
    found = of(registered_mean(), observed)
    assert (found["value"].low, found["value"].high, found["value"].over) == (None, None, why)


def test_a_metric_that_bears_no_fewer_models_says_so():
    klom = GROUP_METRICS.get("klom")
    sides = {name: np.random.default_rng(0).normal(size=(10, 30)) for name in klom.needs}
    found = of(klom, sides | {"trial_fold": np.arange(10.0), "oracle_fold": np.arange(10.0)})
    assert {each.over for each in found.values()} == {"undefined with models left out"}

    @group_metric("needs_ten", over=["seed"], parts={"value": Part("lower")}, cites="a test")
    def needs_ten(test_loss: np.ndarray) -> dict[str, float]:
        """The tenth."""
        return {"value": test_loss[9]}

    observed = {"test_loss": np.ones(10), "trial_fold": np.arange(10.0), "oracle_fold": []}
    assert "IndexError" in of(GROUP_METRICS.get("needs_ten"), observed)["value"].over


def test_a_metric_with_an_interval_of_its_own_keeps_it():
    capacity = GROUP_METRICS.get("deletion_capacity")
    grid = np.tile([1.0, 5.0, 10.0], 5)
    loss = 0.5 + 0.01 * grid * np.repeat([0.4, 0.6, 0.8, 1.0, 1.2], 3)
    observed = {"ratio": grid, "test_loss": loss, "original_test_loss": np.full(15, 0.5)}
    observed |= {
        "training_seed": np.repeat(np.arange(5.0), 3),
        "trial_fold": np.repeat(np.arange(5.0), 3),
        "oracle_fold": [],
    }
    values, _ = compute_group("deletion_capacity", observed)
    found = intervals(capacity, observed, values, {})
    assert found.keys() == {"capacity"} and found["capacity"].over == "the metric's own"
    assert (found["capacity"].low, found["capacity"].high) == (values["low"], values["high"])
    with pytest.raises(MubenchError, match="lowest"):
        group_metric("x", over=["seed"], parts={"value": Part("lower", interval=("lowest", "high"))}, cites="")


def models(rng: np.random.Generator, trainings: int, leak: float, common: float) -> dict[str, np.ndarray]:
    """Confidences on 30 examples, the same ones every time; models of one training share an error."""
    examples = np.random.default_rng(7)
    level, spread = examples.normal(1, 1, 30), np.exp(examples.normal(0, 0.3, 30))
    training, method = common * rng.normal(size=(2, trainings, 1))
    never, forgot = (level + training + spread * rng.normal(size=(trainings, 30)) for _ in range(2))
    forgot = forgot + leak + method
    sides = {f"{split}_confidence": forgot for split in ("forget", "retain", "validation", "test")}
    sides |= {f"oracle_{name}": never for name in sides}
    return sides | {"trial_fold": np.arange(float(trainings)), "oracle_fold": np.arange(float(trainings))}


@pytest.mark.parametrize(("name", "part", "trainings"), [("u_lira", "auc", 8), ("klom", "forget_mean", 20)])
@pytest.mark.parametrize(("leak", "common"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.5)])
def test_what_so_many_other_models_would_say_is_covered(name, part, trainings, leak, common):
    """The truth is the mean of the metric with so many models, its bias from there being so few of them included."""
    metric, found = GROUP_METRICS.get(name), []
    for repetition in range(60):
        observed = models(np.random.default_rng([repetition, trainings]), trainings, leak, common)
        values, _ = compute_group(name, observed)
        interval = intervals(metric, observed, values, {})[part]
        found.append((values[part], interval.low, interval.high))
    value, low, high = np.array(found, float).T
    assert (
        np.mean((low <= value.mean()) & (value.mean() <= high)) >= 0.9
    )  # of 60, where 95% is meant: 2 sd below is .89
    assert (high - low).mean() < 12 * value.std()  # and not by being wide: 4 is what would do
