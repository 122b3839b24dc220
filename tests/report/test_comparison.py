from __future__ import annotations

import json
import runpy

import numpy as np
import pytest

from mubench_ray.report.comparison import compare, letters, pseudo_values, retrain_reference
from mubench_ray.report.contrasts import told_apart, worse_than
from mubench_ray.report.load import load
from mubench_ray.report.report import make_report


@pytest.fixture(scope="module")
def claims(repository):
    """The simulation of which benchmarks/claims/letters.md has the figures."""
    return runpy.run_path(str(repository / "benchmarks" / "claims" / "letters.py"))


@pytest.mark.parametrize(
    "law", ["equal normal", "one of variance 50", "half of variance 50", "accuracy of 300 at p = .998"]
)
def test_equal_means_are_rarely_told_apart(claims, law):
    """Family-wise error over all pairs of 18 at 5 blocks: at most 5%, three standard errors allowed."""
    repetitions = 60
    assert claims["level"](claims["EQUAL"][law], 18, 5, repetitions) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)


def test_a_contender_three_deviations_worse_is_found(claims):
    """In most of its 17 pairs at 5 blocks: 83% of 1,000 tables; 60 have a standard error of 3%."""
    assert claims["power"](18, 5, 60) >= 0.75


def test_letters_of_two_sides_and_a_middle():
    apart = np.zeros((3, 3), bool)
    apart[0, 2] = apart[2, 0] = True
    assert letters(apart) == ["a", "ab", "b"]
    assert letters(np.zeros((2, 2), bool)) == ["a", "a"]
    noise = np.random.default_rng(2).normal(0, 0.01, (4, 5))
    assert letters(told_apart(noise + np.array([[0.0], [0.0], [1.0], [2.0]]))) == ["a", "a", "b", "c"]


def found(folder, **kept):
    rows = compare(load(folder.root), "retention_deviation", higher=False).to_pylist()
    return {row["method"]: (row["group"], row["told_from_retrain"]) for row in rows if kept.items() <= row.items()}


def test_a_folder_is_compared_by_cell_and_without_controls(folder):
    for ratio in (5.0, 10.0):
        folder.controls(ratio=ratio, seeds=(0, 1, 2, 3, 4))
    for seed in range(5):
        for ratio in (5.0, 10.0):
            folder.add("ft", seed=seed, ratio=ratio, retention_deviation=0.02 + 0.001 * seed)
            folder.add("ga", seed=seed, ratio=ratio, retention_deviation=(0.02 if ratio == 5 else 5) + 0.002 * seed**2)
    assert found(folder, ratio=5.0)["ft"] == found(folder, ratio=5.0)["ga"] == ("a", False)
    assert found(folder, ratio=10.0) == {
        "retrain": ("", None), "original": ("", None), "ft": ("a", False), "ga": ("b", True)
    }  # fmt: skip


def test_blocks_are_training_seeds_and_draws(folder):
    """One training seed and five draws, and two of each: neither has three training seeds, both have enough blocks."""
    rng = np.random.default_rng(0)
    for ratio, training_seeds, draws in ((5.0, 1, 5), (10.0, 2, 2)):
        for training_seed in range(training_seeds):
            for draw in range(draws):
                shared = rng.normal(0, 1)
                for method, mean in (("ft", 1.0), ("ga", 3.0)):
                    value = mean + shared + 0.01 * rng.normal()
                    own = {"training_seed": training_seed, "forget_seed": draw, "ratio": ratio}
                    folder.add(method, retention_deviation=value, **own)
    for ratio in (5.0, 10.0):
        assert {name: group for name, (group, _) in found(folder, ratio=ratio).items()} == {"ft": "a", "ga": "b"}


def test_what_has_too_few_blocks_of_its_own_has_no_letter(folder):
    """One usable trial of five shared every letter, as if it had been compared."""
    for seed in range(5):
        for method, value in (("ft", 0.1), ("salun", 0.9)):
            folder.add(method=method, seed=seed, training_seed=seed, retention_deviation=value + 0.01 * seed)
    folder.add(method="neggrad", seed=0, training_seed=0, retention_deviation=0.5)
    rows = compare(load(folder.root), "retention_deviation", higher=False).to_pylist()
    assert {row["method"]: row["group"] for row in rows} == {"ft": "a", "salun": "b", "neggrad": ""}


def test_the_unlearning_seeds_of_one_model_compare_but_not_with_retrains(folder):
    for seed in range(4):
        for method, value in (("ft", 0.1), ("ga", 0.5), ("retrain", 0.0)):
            folder.add(method, seed=seed, training_seed=7, retention_deviation=value + 0.01 * seed**2)
    assert found(folder) == {"ft": ("a", None), "ga": ("b", None), "retrain": ("", None)}


def test_the_retrain_is_held_to_other_retrains(folder):
    """Retrains .80, .81, .82 on D_F, equal elsewhere: RetDev of one taken as the unlearned model of another, by hand, and
    what leaving one out takes off the mean."""
    folder.controls()
    results = load(folder.root)
    reference = retrain_reference(results, "retention_deviation")
    seeds, method = results.trials["training_seed"].to_numpy(), results.trials["method"].to_numpy(zero_copy_only=False)
    pairs = {(0, 1): 0.01 / 0.80 + 0.01 / 0.81, (0, 2): 0.02 / 0.80 + 0.02 / 0.82, (1, 2): 0.01 / 0.81 + 0.01 / 0.82}
    mean, without = sum(pairs.values()) / 6, {0: pairs[1, 2] / 2, 1: pairs[0, 2] / 2, 2: pairs[0, 1] / 2}
    by_hand = {seed: 3 * mean - 2 * left for seed, left in without.items()}
    for name in ("retrain", "original"):
        assert {s: r for s, r, m in zip(seeds, reference, method) if m == name} == pytest.approx(by_hand)


def test_one_contender_of_the_retrains_own_law_is_rarely_told_from_it():
    """In 7 to 8 % of tables, where each retrain's distance to the others counted as if it were independent of theirs."""
    rng, told = np.random.default_rng(0), []
    for _ in range(1500):
        accuracies, unlearned = rng.binomial(60, 0.9, (2, 3, 5)) / 60
        retrains = np.abs(accuracies[:, :, None] / accuracies[:, None, :] - 1).sum(axis=0)
        contender = np.abs(unlearned / accuracies - 1).sum(axis=0)
        told.append(worse_than(contender[None], pseudo_values(retrains))[0])
    assert np.mean(told) < 0.05


def test_an_untrusted_measure_gives_no_letters(folder):
    folder.controls()
    for seed in range(3):
        for method, value in (("ft", 0.1), ("ga", 3.0)):
            folder.add(method, seed=seed, retention_deviation=value + 0.01 * seed**2)
    assert {row["group"] for row in make_report(folder.root).board.to_pylist()} == {"", "a", "b"}
    cell = {"task": "digits", "model": "cnn", "ratio": 10.0, "metric": "retention_deviation", "verdict": "untrusted"}
    folder.store.write_text("controls.json", json.dumps({"verdicts": [cell]}))
    rows = make_report(folder.root).board.to_pylist()
    assert {(row["group"], row["told_from_retrain"]) for row in rows} == {("", None)}
