import json

import numpy as np
import pytest
from scipy.stats import t

from mubench_ray.metrics.controls import chance_tolerance, check_metric, gate, mean_interval, sampling_tolerance
from mubench_ray.metrics.mia_auc import mia_auc

LEAK = {1: 0.70, 2: 0.72, 3: 0.71, 4: 0.69, 5: 0.73}
CHANCE = {1: 0.50, 2: 0.51, 3: 0.49, 4: 0.52, 5: 0.48}


def check(original, retrain, **options):
    return check_metric("u_mia", original, retrain, ideal=0.5, **options)


def test_original_told_apart_and_retrain_not_is_trusted():
    found = check(LEAK, CHANCE)
    assert found.verdict == "trusted" and "0.71" in found.reason
    assert found.original.mean == pytest.approx(0.71) and found.retrain.low < 0.5 < found.retrain.high


def test_a_metric_blind_to_the_original_is_untrusted():
    found = check(CHANCE, {seed: value + 0.004 for seed, value in CHANCE.items()})
    assert found.verdict == "untrusted" and "original is not told apart" in found.reason


def test_a_metric_that_accuses_the_retrain_is_untrusted():
    found = check({seed: 0.9 + seed / 1000 for seed in LEAK}, LEAK)
    assert found.verdict == "untrusted" and "retrain is told apart" in found.reason


def test_telling_apart_in_the_wrong_direction_is_no_pass():
    # The original looks cleaner than the retrain.
    found = check({s: 0.500 for s in CHANCE}, {s: v + 0.015 for s, v in CHANCE.items()})
    assert found.verdict == "untrusted" and "original is not told apart" in found.reason


def test_the_difference_is_paired_by_seed():
    # Seeds differ by much more than the leak, but every one of them leaks.
    retrain = {seed: 0.5 + shift for seed, shift in zip(range(5), (-0.2, -0.1, 0.0, 0.1, 0.2))}
    original = {seed: value + 0.05 + seed / 1000 for seed, value in retrain.items()}
    found = check(original, retrain)
    assert found.verdict == "trusted" and found.original.low < found.retrain.high


def test_what_one_small_forget_set_causes_is_tolerated_and_no_more():
    biased = {seed: 0.55 + seed / 10_000 for seed in range(5)}  # all seeds share one D_F of 100
    leak = {seed: 0.8 + seed / 1000 for seed in range(5)}
    assert check(leak, biased).verdict == "untrusted"
    assert check(leak, biased, tolerance=sampling_tolerance(100)).verdict == "trusted"
    assert check(leak, biased, tolerance=sampling_tolerance(10_000)).verdict == "untrusted"


@pytest.mark.parametrize(
    "original, retrain", [({}, {}), ({1: 0.7, 2: 0.7}, {1: 0.5, 2: 0.5}), (LEAK, {7: 0.5, 8: 0.5, 9: 0.5}), (LEAK,
    dict.fromkeys(LEAK)),
                          (LEAK, dict.fromkeys(LEAK, float("nan")))]
)  # fmt: skip
def test_fewer_than_three_common_seeds_cannot_be_checked(original, retrain):
    found = check(original, retrain)
    assert found.verdict == "not checkable" and "common seeds" in found.reason and found.original is None


def test_a_metric_that_compares_with_the_retrain_says_so():
    found = check_metric(
        "retention_deviation", {1: 0.3, 2: 0.4, 3: 0.35}, {1: 0.0, 2: 0.0, 3: 0.0}, ideal=0.0, self_referential=True
    )
    assert found.verdict == "trusted" and "own reference" in found.reason


def test_the_interval_is_students_and_covers_as_it_says():
    values = [0.1, 0.4, 0.2, 0.5]
    expected = t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) / 2)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx(expected)
    covered = [mean_interval(np.random.default_rng(seed).normal(3, 1, 5)).meets(3, 3) for seed in range(1000)]
    assert 0.93 < np.mean(covered) < 0.97
    with pytest.raises(ValueError, match="not 1"):
        mean_interval([1.0])


def test_the_sampling_tolerance_is_what_chance_does_to_an_auc():
    rng = np.random.default_rng(0)
    strays = [abs(mia_auc(*rng.gamma(1, 1, (2, 60))) - 0.5) for _ in range(2000)]
    assert np.mean(np.array(strays) <= sampling_tolerance(60)) == pytest.approx(0.95, abs=0.015)


def test_the_tolerance_is_on_the_metrics_own_scale():
    assert chance_tolerance(0.5, 0.0, 1.0, 100) == pytest.approx(sampling_tolerance(100))  # an AUC
    assert chance_tolerance(1.0, 0.0, 1.0, 100) == pytest.approx(2 * sampling_tolerance(100))  # 1 - |2 MIA - 1|
    assert chance_tolerance(0.0, 0.0, None, 100) == 0.0  # no bound, nothing known of chance


def row(method, seed, **values):
    fixed = {
        "task": "digits",
        "model": "cnn",
        "ratio": 5.0,
        "sampler": "uniform",
        "forget_seed": 42,
        "status": "ok",
        "forget_size": 500,
    }
    return {**fixed, "method": method, "seed": seed, "training_seed": seed, **values}


def controls(**metric_of):
    return [
        row(method, seed, **{name: of(method, seed) for name, of in metric_of.items()})
        for method in ("original", "retrain")
        for seed in range(5)
    ]


def leaky(method, seed):
    return (0.8 if method == "original" else 0.5) + seed / 1000


def test_the_gate_checks_every_forgetting_metric_of_every_cell():
    rows = controls(
        u_mia=leaky, mia_auc=lambda method, seed: 0.5 + seed / 1000, test_accuracy=leaky, indisc=lambda *_: None
    )
    rows += [{**each, "ratio": 10.0, "u_mia": None} for each in rows] + [row("ft", 1, u_mia=0.9)]
    verdicts = {(each["ratio"], each["metric"]): each for each in gate(rows)}
    assert set(verdicts) == {(ratio, name) for ratio in (5.0, 10.0) for name in ("u_mia", "mia_auc")}
    assert verdicts[5.0, "u_mia"]["verdict"] == "trusted"
    assert verdicts[5.0, "mia_auc"]["verdict"] == "untrusted"
    assert verdicts[10.0, "u_mia"]["verdict"] == "not checkable"
    assert json.loads(json.dumps(list(verdicts.values())))


def test_the_gate_leaves_failed_rows_out_and_counts_a_training_once():
    rows = controls(u_mia=leaky)
    failed = [{**each, "status": "failed", "u_mia": 0.1} for each in rows]
    repeated = [{**each, "seed": each["seed"] + 100} for each in rows]
    [verdict] = gate(rows + failed + repeated)
    assert verdict["verdict"] == "trusted" and verdict["original"]["seeds"] == 5


def test_the_gate_knows_which_metrics_compare_with_the_retrain_and_how_indisc_scales():
    rows = controls(
        retention_deviation=lambda method, seed: 0.3 + seed / 100 if method == "original" else 0.0,
        indisc=lambda method, seed: (
            (0.4 if method == "original" else 0.93) + seed / 1000
        ),  # one-sided, below 1 by chance
    )
    verdicts = {each["metric"]: each for each in gate(rows)}
    assert "own reference" in verdicts["retention_deviation"]["reason"]
    assert verdicts["indisc"]["verdict"] == "trusted"


def test_the_gate_holds_a_plugins_metric_to_what_the_folder_says_of_it():
    """Its code is not there: `mubench report` of a folder that was run with it."""
    declared = {"theirs": {"ideal": 0.5, "low": 0.0, "high": 1.0}, "odd": {"ideal": "0.5"}, "odder": None}
    (verdict,) = gate(controls(theirs=leaky, odd=leaky), declared=declared)
    assert (verdict["metric"], verdict["verdict"]) == ("theirs", "trusted")
