from __future__ import annotations

import numpy as np
import pytest

from mubench_ray.metrics.cost_curve import score_at_cost
from mubench_ray.report.frontier import at_shares, dominated, names_that_fit, without_overlap
from mubench_ray.report.load import load


def brute(cost, gain):
    def beats(j, i):
        return cost[j] <= cost[i] and gain[j] >= gain[i] and (cost[j] < cost[i] or gain[j] > gain[i])

    return [any(beats(j, i) for j in range(len(cost))) for i in range(len(cost))]


def test_against_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cost, score = rng.integers(0, 5, 8).astype(float), rng.integers(0, 5, 8).astype(float)
        assert dominated(cost, score, higher=True).tolist() == brute(cost, score)
        assert dominated(cost, score, higher=False).tolist() == brute(cost, -score)


def test_unknown_points_are_never_on_the_frontier():
    assert dominated(np.array([np.nan, 0.5]), np.array([1.0, 0.1]), higher=True).tolist() == [True, False]


def test_scores_at_shares_of_the_retrains_cost(folder):
    points = [(0.0, 0.9), (0.011, 0.8), (0.052, 0.7), (0.2, 0.6)]
    folder.add("retrain", curve=[{"share": 1.0, "forget_accuracy": 0.5}])
    folder.add(curve=[{"share": share, "forget_accuracy": value} for share, value in points])
    folder.add(status="failed", error="boom", seed=1, curve=[{"share": 0.0, "forget_accuracy": 0.1}])
    read = at_shares(load(folder.root))
    by_share = {share: read[f"forget_accuracy@{share}"].tolist() for share in ("0", "0.01", "0.05", "0.1", "0.25", "1")}
    assert {share: values[1] for share, values in by_share.items()} == {
        "0": 0.9, "0.01": 0.8, "0.05": 0.7, "0.1": 0.6, "0.25": 0.6, "1": 0.6,
    }  # fmt: skip
    assert np.isnan(by_share["0.01"][0]) and by_share["1"][0] == 0.5 and np.isnan(by_share["0"][2])
    assert read["spent@0.25"][1] == pytest.approx(0.2)


def test_the_chart_and_the_metric_read_a_curve_alike(folder):
    """Points far from any share, two of them at one cost."""
    points = [(0.0, 0.9), (0.03, 0.2), (0.03, 0.7), (0.3, 0.1), (0.9, 0.6)]
    folder.add(curve=[{"share": share, "forget_accuracy": value} for share, value in points])
    read = at_shares(load(folder.root))
    share, value = np.array([points]).transpose(2, 0, 1)
    metric = score_at_cost(share, value, value, value)
    for percent, wanted in {1: 0.7, 5: 0.1, 10: 0.1, 25: 0.1, 50: 0.6, 100: 0.6}.items():
        assert read[f"forget_accuracy@{percent / 100:g}"].tolist() == [wanted]
        assert metric[f"forget_accuracy_at_{percent}_percent"] == wanted


def test_no_curves_no_shares(folder):
    folder.add()
    assert at_shares(load(folder.root)) == {}


def test_names_that_would_cover_each_other_are_left_out():
    x, y = np.array([0.0, 0.1, 5.0, 10.0, np.nan]), np.array([0.0, 0.01, 0.0, 1.0, 1.0])
    assert without_overlap(x, y, np.ones(5, bool), 2.0, 0.1).tolist() == [True, False, True, True, False]
    assert without_overlap(x, y, np.array([False, True, True, True, True]), 2.0, 0.1).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_names_fit_on_the_axes_that_are_drawn():
    """Scores .50 and .51 are far apart on their own, and one line within intervals from 0 to 1."""
    cost, score, none = np.array([0.1, 0.11, 1.0]), np.array([0.50, 0.51, 0.52]), np.full(3, np.nan)
    wanted = np.ones(3, bool)
    assert names_that_fit("indisc", cost, score, none, none, wanted).tolist() == [True, True, True]
    wide = names_that_fit("indisc", cost, score, np.zeros(3), np.ones(3), wanted)
    assert wide.tolist() == [True, False, True]
    assert names_that_fit("retention_deviation", cost, score, none, none, wanted).tolist() == [True, False, True]
