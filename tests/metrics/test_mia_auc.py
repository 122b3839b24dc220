import numpy as np
import pytest

from mubench_ray.metrics import compute_all


def losses(**splits):
    return {f"{name}_loss": np.asarray(values, float) for name, values in splits.items()}


def test_a_perfect_leak_no_leak_and_over_forgetting():
    rng = np.random.default_rng(0)
    test = rng.uniform(1, 2, 2000)
    remembered = compute_all(losses(forget=rng.uniform(0, 0.5, 500), test=test))
    forgotten = compute_all(losses(forget=rng.uniform(1, 2, 500), test=test))
    too_much = compute_all(losses(forget=rng.uniform(3, 4, 500), test=test))
    assert remembered["mia_auc"] == 1.0 and remembered["mia_tpr_at_0_1_percent_fpr"] == 1.0
    assert too_much["mia_auc"] == 0.0 and too_much["mia_tpr_at_1_percent_fpr"] == 0.0
    # Chance: standard error of an AUC of 500 against 2,000.
    assert abs(forgotten["mia_auc"] - 0.5) < 3 * np.sqrt(2501 / (12 * 500 * 2000))
    # An AUC near 0 is no win.
    assert remembered["mia_advantage"] == too_much["mia_advantage"] == 0.5
    assert forgotten["mia_advantage"] < 0.05


@pytest.mark.parametrize("shift", [0.2, 1.0, 5.0])
def test_the_advantage_is_symmetric_about_chance(shift):
    rng = np.random.default_rng(1)
    test = np.concatenate([x := rng.normal(0, 1, 300), -x])
    up = compute_all(losses(forget=test + shift, test=test, validation=test))
    down = compute_all(losses(forget=test - shift, test=test, validation=test))
    assert up["mia_auc"] < 0.5 < down["mia_auc"]
    assert up["mia_advantage"] == pytest.approx(down["mia_advantage"])
    assert up["mia_advantage_validation"] == pytest.approx(up["mia_advantage"])


def test_retain_side_privacy_is_measured_against_the_retrains_own_exposure():
    rng = np.random.default_rng(2)
    test, retain = rng.uniform(1, 2, 500), rng.uniform(0.5, 1.5, 500)
    same = losses(retain=retain, test=test, retrain_retain=retain, retrain_test=test)
    assert compute_all(same)["retain_mia_auc"] > 0.8  # any trained model exposes D_R
    assert compute_all(same)["retain_mia_excess"] == 0.0
    assert compute_all(same | losses(retain=retain - 1))["retain_mia_excess"] > 0.1
