import numpy as np
import pytest
from scipy.stats import entropy, norm

from mubench_ray.metrics.klom import BINS, FLOOR, klom, klom_of_examples


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
    found = klom(**arrays)
    single = klom_of_examples(arrays["forget_confidence"], oracle)
    assert found["forget_mean"] == pytest.approx(single.mean())
    assert found["forget_p95"] == pytest.approx(np.percentile(single, 95))
    assert found["retain_mean"] < found["forget_mean"]
