import numpy as np
import pytest

from mubench_ray.metrics.scaling import scaling


def test_an_exact_line_is_found_with_no_error():
    flos = np.array([1e9, 1e10, 1e11, 1e12])
    found = scaling(flos, 0.9 - 0.1 * np.log10(flos / 1e9))
    assert found["slope"] == pytest.approx(-0.1) and found["standard_error"] == pytest.approx(0, abs=1e-6)
    assert found["r_squared"] == pytest.approx(1) and found["models"] == 4


def test_the_standard_error_is_the_textbooks_and_covers_the_truth():
    covered = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        decades = rng.uniform(8, 12, 12)
        found = scaling(10**decades, 0.9 - 0.05 * decades + rng.normal(0, 0.1, 12))
        covered.append(abs(found["slope"] + 0.05) < 2.228 * found["standard_error"])  # t, 10 degrees of freedom, 95 %
    assert 0.91 < np.mean(covered) < 0.98


def test_no_trend_explains_nothing():
    rng = np.random.default_rng(0)
    found = scaling(10 ** rng.uniform(8, 12, 500), rng.uniform(0, 1, 500))
    assert abs(found["slope"]) < 4 * found["standard_error"] and found["r_squared"] < 0.03


def test_too_little_to_fit_is_undefined():
    assert np.isnan(scaling(np.array([1e9, 1e10]), np.array([0.5, 0.6]))["slope"])
    assert np.isnan(scaling(np.full(5, 1e9), np.linspace(0, 1, 5))["slope"])
    flat = scaling(np.array([1e9, 1e10, 1e11]), np.full(3, 0.5))
    assert flat["slope"] == 0.0 and np.isnan(flat["r_squared"])
    with_idle = scaling(np.array([0.0, 1e9, 1e10, 1e11]), np.array([0.0, 0.5, 0.6, 0.7]))  # original spends none
    assert with_idle["slope"] == pytest.approx(0.1)
