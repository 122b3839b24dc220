from __future__ import annotations

import numpy as np
import pytest

from mubench_ray.report.histograms import BINS, histograms
from mubench_ray.report.load import load


def fill(folder, seeds, shift, ratios=(10.0,)):
    rng = np.random.default_rng(0)
    for ratio in ratios:
        for seed in range(seeds):
            for method, moved in (("retrain", 0.0), ("ft", shift)):
                values = {index: (1, value) for index, value in enumerate(rng.normal(1 + moved, 1, 200))}
                folder.add(method, seed=seed, ratio=ratio, examples=values)


def mean(rows, side, ratio="10"):
    chosen = [row for row in rows if row["side"] == side and row["ratio"] == ratio]
    assert sum(row["share"] for row in chosen) == pytest.approx(1) and len(chosen) == BINS
    return sum(row["share"] * (row["from"] + row["to"]) / 2 for row in chosen)


def test_with_few_seeds_the_confidences_are_shown(folder):
    fill(folder, 2, 4.0)
    rows = histograms(load(folder.root)).to_pylist()
    assert {row["score"] for row in rows} == {"confidence, log(p / (1 - p))"}
    assert {row["label"] for row in rows} == {"ft"}  # the retrain is what it is compared with
    assert mean(rows, "forgotten") == pytest.approx(5, abs=0.3)
    assert mean(rows, "never seen") == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(("shift", "apart"), [(0.0, False), (4.0, True)])
def test_with_four_seeds_the_likelihood_ratio_is(folder, shift, apart):
    fill(folder, 5, shift)
    rows = histograms(load(folder.root)).to_pylist()
    assert {row["score"] for row in rows} == {"log likelihood ratio"}
    gap = mean(rows, "forgotten") - mean(rows, "never seen")
    assert (gap > 4) if apart else (abs(gap) < 0.3)


def test_ratios_are_shown_alone_and_pooled(folder):
    fill(folder, 2, 2.0, ratios=(5.0, 10.0))
    rows = histograms(load(folder.root)).to_pylist()
    assert {row["ratio"] for row in rows} == {"5", "10", "all"}
    one, other, pooled = (mean(rows, "forgotten", ratio) for ratio in ("5", "10", "all"))
    assert pooled == pytest.approx((one + other) / 2, abs=1e-9)


def test_without_examples_or_a_retrain_there_is_nothing_to_show(folder):
    folder.add("ft", test_accuracy=0.5)
    assert len(histograms(load(folder.root))) == 0
    folder.add("ft", seed=1, examples={1: (1, 2.0)})
    assert len(histograms(load(folder.root))) == 0
