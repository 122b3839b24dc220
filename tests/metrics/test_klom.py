import numpy as np
import pytest
from scipy.stats import entropy, norm

from mubench_ray.metrics.group import GROUP_METRICS
from mubench_ray.metrics.klom import BINS, FLOOR, beside_null, klom, klom_of_examples


def reference(unlearned, oracle):
    """The paper's definition, one example at a time, with numpy's own histograms."""
    unlearned, oracle = np.clip(unlearned, -100, 100), np.clip(oracle, -100, 100)
    low, high = min(unlearned.min(), oracle.min()), max(unlearned.max(), oracle.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    p, q = (np.histogram(sample, edges)[0] / len(sample) for sample in (unlearned, oracle))
    return (p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], FLOOR))).sum()


def test_agrees_with_the_definition_example_by_example():
    rng = np.random.default_rng(0)
    unlearned, oracle = rng.normal(0, 2, (50, 30)) + rng.normal(0, 3, 30), rng.normal(0, 3, (80, 30))
    expected = [max(reference(unlearned[:, x], oracle[:, x]), 0.0) for x in range(30)]
    assert klom_of_examples(unlearned, oracle) == pytest.approx(expected)


@pytest.mark.parametrize("mean, spread", [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (0.5, 0.7)])
def test_many_models_approach_the_analytic_divergence_of_two_gaussians(mean, spread):
    rng = np.random.default_rng(1)
    analytic = np.log(1 / spread) + (spread**2 + mean**2) / 2 - 0.5
    estimate = klom_of_examples(rng.normal(mean, spread, (200_000, 2)), rng.normal(0, 1, (200_000, 2)))
    assert estimate == pytest.approx(np.full(2, analytic), abs=0.03)


def test_binning_only_ever_loses_divergence():
    # The exact divergence of the binned Gaussians: what a histogram of 20 bins over [-5, 6] can show of KL = 1/2.
    edges = np.linspace(-5, 6, BINS + 1)
    p, q = np.diff(norm.cdf(edges, 1, 1)), np.diff(norm.cdf(edges, 0, 1))
    assert entropy(p, q) < 0.5


def test_it_is_the_divergence_of_f_u_from_the_oracles_and_not_the_reverse():
    rng = np.random.default_rng(2)
    narrow, wide = rng.normal(0, 0.5, (5000, 1)), rng.normal(0, 3, (5000, 1))
    assert klom_of_examples(narrow, wide)[0] < 2 < klom_of_examples(wide, narrow)[0]


def test_disjoint_margins_reach_the_bound_and_equal_ones_are_zero():
    rng = np.random.default_rng(3)
    low, high = rng.uniform(0, 0.01, (20, 4)), rng.uniform(9, 9.01, (20, 4))
    assert klom_of_examples(low, high) == pytest.approx(np.full(4, -np.log(FLOOR)))
    assert klom_of_examples(low, low).tolist() == [0.0] * 4
    assert klom_of_examples(np.full((20, 2), 3.0), np.full((20, 2), 3.0)).tolist() == [0.0, 0.0]


def test_over_forgetting_diverges_like_remembering():
    rng = np.random.default_rng(4)
    oracle, shift = rng.normal(0, 1, (100, 50)), 3.0
    unlearned = rng.normal(0, 1, (100, 50))
    up, down = klom_of_examples(unlearned + shift, oracle).mean(), klom_of_examples(unlearned - shift, oracle).mean()
    assert up == pytest.approx(down, rel=0.1) and up > 1


def test_extreme_margins_are_clipped():
    unlearned, oracle = np.full((10, 1), 1e9), np.full((10, 1), 100.0)
    assert klom_of_examples(unlearned, oracle).tolist() == [0.0]


def test_examples_seen_by_too_few_models_are_left_out():
    rng = np.random.default_rng(5)
    unlearned, oracle = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    unlearned[:3, 1] = np.nan  # 9 left
    oracle[:2, 2] = np.nan  # 10 left: enough
    found = klom_of_examples(unlearned, oracle)
    assert np.isnan(found[1]) and np.isfinite(found[[0, 2]]).all()
    assert found[2] == pytest.approx(klom_of_examples(unlearned[:, 2:], oracle[2:, 2:])[0])
    assert np.isnan(klom_of_examples(unlearned[:5], oracle)).all()
    assert np.isnan(klom_of_examples(unlearned, oracle[:9])).all()


def test_mean_and_percentile_of_every_split():
    rng = np.random.default_rng(6)
    oracle = rng.normal(0, 1, (30, 40))
    arrays = {}
    for split, shift in {"forget": 4.0, "retain": 0.0, "validation": 0.0, "test": 0.0}.items():
        arrays |= {f"{split}_confidence": rng.normal(shift, 1, (30, 40)), f"oracle_{split}_confidence": oracle}
    found = klom(**arrays, trial_fold=np.arange(30), oracle_fold=np.arange(30))
    single = klom_of_examples(arrays["forget_confidence"], oracle)
    assert found["forget_mean"] == pytest.approx(single.mean())
    assert found["forget_p95"] == pytest.approx(np.percentile(single, 95))
    assert found["retain_mean"] < found["forget_mean"]
    null = beside_null(arrays["forget_confidence"], oracle, np.arange(30), np.arange(30))
    assert found["forget_excess_mean"] == pytest.approx((null[0] - null[1]).mean())
    assert found["forget_excess_mean"] > 3 > 0.5 > abs(found["retain_excess_mean"])
    assert [part for part, of in GROUP_METRICS.get("klom").parts.items() if of.ideal is not None] == [
        "forget_mean", "forget_p95", "forget_excess_mean",
    ]  # fmt: skip


def excesses(draw, trial_fold, oracle_fold, runs):
    """Mean excess and its standard error over runs, and what the official number reads."""
    found, raw = [], []
    for seed in range(runs):
        unlearned, oracle = draw(np.random.default_rng(seed))
        found.append(np.nanmean(np.subtract(*beside_null(unlearned, oracle, trial_fold, oracle_fold))))
        raw.append(np.nanmean(klom_of_examples(unlearned, oracle)))
    return np.mean(found), np.std(found) / np.sqrt(runs), np.mean(raw)


@pytest.mark.parametrize("trials, oracles", [(32, 32), (24, 60), (60, 24)])
def test_a_method_of_the_oracles_law_reads_0_beside_as_many_oracles(trials, oracles):
    def draw(rng):
        centre, of_model = rng.normal(2, 2, 40), rng.normal(0, 0.3, (trials + oracles, 1))
        return np.split(centre + of_model + rng.normal(0, 1, (trials + oracles, 40)), [trials])

    mean, error, raw = excesses(draw, np.arange(trials), np.arange(oracles), 40)
    assert abs(mean) < 3 * error < 0.15 and raw > 0.7


def test_it_does_so_in_a_pool_whose_models_of_one_fold_are_alike():
    """Each fold's own half and draws decide who observes what: f_U its forget sets, oracles the other half as well."""
    folds, draws = 24, 4
    fold = np.repeat(np.arange(folds), draws)

    def draw(rng):
        half = rng.random((folds // 2, 30)) < 0.5
        within = np.concatenate([half, ~half])[fold]
        member = within & (rng.random((len(fold), 30)) < 0.5)
        centre, of_fold = rng.normal(2, 2, 30), rng.normal(0, 1, (folds, 30))[fold]
        unlearned, oracle = (centre + of_fold + rng.normal(0, 0.5, (len(fold), 30)) for _ in range(2))
        return np.where(member, unlearned, np.nan), np.where(member | ~within, oracle, np.nan)

    mean, error, _ = excesses(draw, fold, fold, 40)
    assert abs(mean) < 3 * error < 0.2


def test_as_many_models_stand_on_either_side_whatever_a_fold_holds_and_in_any_order():
    rng = np.random.default_rng(7)
    unlearned, oracle = rng.normal(1, 1, (50, 6)), rng.normal(0, 1, (40, 6))
    unlearned[:3, 0] = np.nan
    trial_fold, oracle_fold = np.arange(50) % 25, np.arange(40)
    found = beside_null(unlearned, oracle, trial_fold, oracle_fold)
    order, other = rng.permutation(50), rng.permutation(40)
    again = beside_null(unlearned[order], oracle[other], trial_fold[order], oracle_fold[other])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, again))
    assert np.isfinite(found).all() and (found[0] - found[1]).mean() > 0.2


def test_below_20_folds_there_is_no_null_of_as_many_models():
    rng = np.random.default_rng(8)
    for folds, known in ((19, False), (20, True)):
        unlearned, oracle = rng.normal(0, 1, (2, folds, 5))
        found = beside_null(unlearned, oracle, np.arange(folds), np.arange(folds))
        assert np.isfinite(found).all() == known
    strangers = beside_null(unlearned, oracle, np.arange(20), np.arange(100, 120))
    assert np.isnan(strangers).all()
