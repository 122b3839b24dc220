"""The suite of metrics over every one of them, metrics that it must find out, and what the engine does for all of them."""

import re
import time

import numpy as np
import pytest

from mubench_ray.conformance import check
from mubench_ray.conformance.metrics import SPLITS, observe, observe_group
from mubench_ray.metrics import (
    GROUP_METRICS,
    METRICS,
    Part,
    compute_all,
    compute_group,
    compute_one,
    group_metric,
    metric,
)
from mubench_ray.metrics.base import reads
from tests.conformance.conftest import faults


@pytest.mark.parametrize("name", [*METRICS.names(), *GROUP_METRICS.names()])
def test_every_metric_conforms(name):
    found = check(name)["metrics", name]
    assert faults(found) == {} and len(found) >= 8


def faulty(**changes):
    """Register a metric that is sound but for ``changes``."""
    declared = {"direction": "higher", "low": 0.0, "high": 1.0, "cites": "a test"} | changes
    compute = declared.pop("compute", lambda test_correct: test_correct.mean())
    compute.__doc__ = declared.pop("doc", "Share of D_Test that is right.")
    metric("faulty", **declared)(compute)


def spoils(test_correct):
    test_correct *= 0.5
    return test_correct.mean()


FAULTS = {
    "words": ({"doc": "", "cites": ""}, "has a docstring and a citation", "docstring; citation"),
    "direction": ({"direction": "up"}, "declares a direction, a range", "'up' is none of higher, lower, neither"),
    "range": ({"low": 1.0}, "declares a direction, a range", r"range 1 \.\. 1 is empty"),
    "ideal": ({"ideal": 2.0}, "declares a direction, a range", r"ideal 2 lies outside 0 \.\. 1"),
    "version": ({"version": "2"}, "declares a direction, a range", "version is '2'"),
    "outside": ({"high": 0.5}, "values lie in the declared range", "value = 0"),
    "unread": ({"compute": lambda test_corect: test_corect.mean()}, "reads what trials give", "'test_corect' is neither .*'test_correct'"),
    "raises": ({"compute": lambda test_correct: 1 / 0}, "runs", "ZeroDivisionError"),
    "leaves": ({"compute": lambda test_correct: exit("done")}, "runs", "SystemExit: done"),
    "undefined": ({"compute": lambda test_correct: float("nan")}, "gives a number", "value is always undefined"),
    "first": ({"compute": lambda test_confidence: 1 / (1 + np.exp(-test_confidence[0]))}, "does not depend on the order of examples", "shuffled"),
    "large": ({"compute": lambda forget_loss: forget_loss.mean() / 40}, "stays in its range", "losses large"),
    "spoils": ({"compute": spoils}, "leaves what it reads as it was", "test_correct"),
    "few": ({"compute": lambda test_correct: test_correct[1]}, "runs", "IndexError"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found_and_told(what, apart):
    changes, name, told = FAULTS[what]
    faulty(**changes)
    wrong = {
        key: detail for key, detail in faults(check("faulty")["metrics", "faulty"]).items() if key.startswith(name)
    }
    assert wrong and all(re.search(told, detail) for detail in wrong.values()), wrong


def test_a_metric_that_remembers_is_found(apart):
    calls = []
    faulty(compute=lambda test_correct: 1 / (calls.append(0) or len(calls)))
    assert "gives the same every time" in faults(check("faulty")["metrics", "faulty"])


def test_a_sound_metric_has_none(apart):
    faulty()
    assert faults(check("faulty")["metrics", "faulty"]) == {}


def faulty_group(compute, parts=None, over=("seed",)):
    compute.__doc__ = "Mean score on D_Test."
    group_metric("faulty", over=over, parts=parts or {"mean": Part("higher", high=1.0)}, cites="a test")(compute)


GROUP_FAULTS = {
    "part": (lambda test_accuracy: {"mean": 0.5, "more": 1}, "gives its parts and no others", "'more' is no declared part"),
    "lost": (lambda test_accuracy: {}, "gives its parts and no others", "'mean' is not given"),
    "outside": (lambda test_accuracy: {"mean": 2.0}, "values lie in the declared range", "mean = 2"),
    "unread": (lambda test_acuracy: {"mean": 0.5}, "reads what groups of trials give", "'test_acuracy' is no array"),
    "first": (lambda test_accuracy: {"mean": test_accuracy[0]}, "does not depend on the order of trials", "shuffled"),
}  # fmt: skip


@pytest.mark.parametrize("what", GROUP_FAULTS)
def test_a_fault_of_a_group_metric_is_found_and_told(what, apart):
    compute, name, told = GROUP_FAULTS[what]
    faulty_group(compute)
    wrong = faults(check("faulty")["metrics", "faulty"])
    assert name in wrong and re.search(told, wrong[name]), wrong


def test_a_sound_group_metric_has_none_and_may_read_any_column(apart):
    faulty_group(lambda test_accuracy, u_mia, forget_size: {"mean": test_accuracy.mean()})
    assert faults(check("faulty")["metrics", "faulty"]) == {}


@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.parametrize("spoil", ["absent", "empty", "nan"])
def test_without_any_one_of_its_inputs_a_metric_is_none(name, spoil):
    complete = observe(np.random.default_rng(0), 150)
    for need in reads(name):
        observed = dict(complete)
        if spoil == "absent":
            del observed[need]
        elif spoil == "empty":
            observed[need] = {} if isinstance(observed[need], dict) else np.array([])
        elif isinstance(observed[need], dict):
            observed[need] = {key: np.full(np.shape(value), np.nan) for key, value in observed[need].items()}
        else:
            observed[need] = np.asarray(observed[need], float) * np.nan
        assert compute_one(name, observed, {}) is None, need


SAME, FAR = range(20), range(50, 70)
HALVES, SURE = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
GAP = dict.fromkeys(reads("knowledge_gap"), HALVES)
NEAR_STATES = {"state": {"w": [1.0]}, "retrain_state": {"w": [1.0]}}
FAR_STATES = {"state": {"w": [1.0]}, "retrain_state": {"w": [2.0]}}
#: (metric, better, worse): what the declared direction must say of two models one can judge by eye.
JUDGED = {
    "certified_epsilon": ({"certificate_epsilon": 1.0}, {"certificate_epsilon": 2.0}),
    "certified_delta": ({"certificate_delta": 1e-5}, {"certificate_delta": 1e-4}),
    "test_accuracy": ({"test_correct": [1, 1]}, {"test_correct": [1, 0]}),
    "retain_accuracy": ({"retain_correct": [1, 1]}, {"retain_correct": [1, 0]}),
    "validation_accuracy": ({"validation_correct": [1, 1]}, {"validation_correct": [1, 0]}),
    "test_loss": ({"test_loss": [0.1]}, {"test_loss": [0.2]}),
    "retain_loss": ({"retain_loss": [0.1]}, {"retain_loss": [0.2]}),
    "test_calibration_error": (
        {"test_top_probability": [0.9] * 10, "test_correct": [1] * 9 + [0]},
        {"test_top_probability": [0.9] * 10, "test_correct": [1, 0] * 5},
    ),
    "worst_class_drop": tuple(
        {
            "test_label": [0] * 10 + [1] * 10,
            "retrain_test_correct": [1] * 20,
            "test_correct": [1] * (20 - lost) + [0] * lost,
        }
        for lost in (2, 5)
    ),
    "retention_deviation": (
        {f"{who}{split}_correct": [1, 1] for who in ("", "retrain_") for split in SPLITS},
        {f"{who}{split}_correct": [1, 1 if who else 0] for who in ("", "retrain_") for split in SPLITS},
    ),
    "retrain_time_efficiency": ({"seconds": 1, "retrain_seconds": 10}, {"seconds": 5, "retrain_seconds": 10}),
    "flos_share": ({"flos": 1, "retrain_flos": 10}, {"flos": 5, "retrain_flos": 10}),
    "indisc": ({"forget_loss": SAME, "test_loss": SAME, "seed": 0}, {"forget_loss": SAME, "test_loss": FAR, "seed": 0}),
    "indisc_validation": (
        {"forget_loss": SAME, "validation_loss": SAME, "seed": 0},
        {"forget_loss": SAME, "validation_loss": FAR, "seed": 0},
    ),
    "mia_advantage": ({"forget_loss": SAME, "test_loss": SAME}, {"forget_loss": SAME, "test_loss": FAR}),
    "mia_advantage_validation": (
        {"forget_loss": SAME, "validation_loss": SAME},
        {"forget_loss": FAR, "validation_loss": SAME},
    ),
    "retain_mia_excess": (
        {"retain_loss": [1, 2], "test_loss": [1, 2], "retrain_retain_loss": [1, 2], "retrain_test_loss": [1, 2]},
        {"retain_loss": [1, 2], "test_loss": [3, 4], "retrain_retain_loss": [1, 2], "retrain_test_loss": [1, 2]},
    ),
    "knowledge_gap": (GAP, {**GAP, "forget_log_probs": SURE}),
    "l2_distance": (NEAR_STATES, FAR_STATES),
    "layer_distance": (NEAR_STATES, FAR_STATES),
    **{
        f"{split}_gap": (
            {f"{split}_correct": [1, 0], f"retrain_{split}_correct": [0, 1]},
            {f"{split}_correct": [1, 1], f"retrain_{split}_correct": [0, 1]},
        )
        for split in ("retain", "forget", "validation")
    },
    **{
        name: ({f"{name}": [0.9]}, {f"{name}": [0.1]})
        for name in ("test_rouge_l", "test_rouge_l_recall", "test_factual_overlap", "test_clip_score")
    },
    "test_generated_accuracy": ({"test_generated_correct": [1, 1]}, {"test_generated_correct": [1, 0]}),
    "transfer_difference": (
        {"shifted_correct": [1, 1], "original_shifted_correct": [1, 0]},
        {"shifted_correct": [0, 0], "original_shifted_correct": [1, 0]},
    ),
}


@pytest.mark.parametrize("name", [name for name, metric in METRICS if metric.direction != "neither"])
def test_the_declared_direction_is_that_of_the_better_model(name):
    better, worse = (
        compute_one(
            name,
            {key: value if isinstance(value, dict) else np.asarray(value, float) for key, value in model.items()},
            {},
        )
        for model in JUDGED[name]
    )
    assert better > worse if METRICS.get(name).direction == "higher" else better < worse


@pytest.mark.parametrize("name", GROUP_METRICS.names())
def test_group_metrics_say_what_is_missing(name):
    metric = GROUP_METRICS.get(name)
    complete = observe_group(np.random.default_rng(0))
    for need in metric.needs:
        for spoiled in (None, np.full(np.shape(complete[need]), np.nan)):
            if need.endswith("_fold") and spoiled is not None:
                continue
            values, reason = compute_group(
                name,
                {**complete, need: spoiled}
                if spoiled is not None
                else {k: v for k, v in complete.items() if k != need},
            )
            assert set(values.values()) == {None}
            assert need in reason or "needs at least" in reason
    for what, least in metric.minimum.items():
        few = observe_group(np.random.default_rng(0), trials=least - 1, oracles=least - 1)
        values, reason = compute_group(name, few)
        assert (
            set(values.values()) == {None}
            and reason == f"needs at least {least} {next(iter(metric.minimum))}, there are {least - 1}"
        ), what


def test_all_metrics_of_a_trial_take_a_fraction_of_a_second():
    observed = observe(np.random.default_rng(0), 1000)
    compute_all(observed)  # imports
    best = min(_seconds(observed) for _ in range(3))
    assert best < 0.6  # 0.12 s on an idle core; room for a busy one


def _seconds(observed):
    start = time.process_time()
    compute_all(observed)
    return time.process_time() - start
