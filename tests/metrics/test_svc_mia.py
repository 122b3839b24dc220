import numpy as np
import pytest
from sklearn.svm import SVC

from mubench_ray.metrics import compute_one
from mubench_ray.metrics.svc_mia import non_member_share, probability


def test_d_f_like_d_r_is_member_and_like_d_test_is_not():
    rng = np.random.default_rng(0)
    retain, test = rng.uniform(0.95, 1, 400), rng.uniform(0.1, 0.8, 400)
    assert non_member_share(retain, test, rng.uniform(0.95, 1, 100)) == 0.0
    assert non_member_share(retain, test, rng.uniform(0.1, 0.8, 100)) == 1.0
    mixed = np.concatenate([rng.uniform(0.95, 1, 75), rng.uniform(0.1, 0.8, 25)])
    assert non_member_share(retain, test, mixed) == 0.25


def test_it_is_salun_s_classifier():
    # SVC(C=3, gamma="auto", kernel="rbf") with 1 for D_R, as in SalUn's code; the result is 1 - mean prediction on D_F.
    rng = np.random.default_rng(1)
    retain, test, forget = rng.beta(8, 1, 150), rng.beta(3, 1, 150), rng.beta(5, 1, 80)
    theirs = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([retain, test])[:, None], np.repeat([1, 0], 150))
    assert non_member_share(retain, test, forget) == pytest.approx(1 - theirs.predict(forget[:, None]).mean())


def test_the_confidence_is_the_probability_of_the_true_label():
    p = np.array([1e-9, 0.2, 0.5, 0.999])
    assert probability(np.log(p / (1 - p))) == pytest.approx(p)
    assert probability(np.array([-2000.0, 2000.0])).tolist() == [0.0, 1.0]


def test_confidence_and_entropy_attacks_read_their_own_column():
    rng = np.random.default_rng(2)
    observed = {
        "retain_confidence": rng.normal(8, 1, 200),
        "test_confidence": rng.normal(-2, 1, 200),
        "forget_confidence": rng.normal(8, 1, 50),
        "retain_entropy": rng.uniform(0, 0.1, 200),
        "test_entropy": rng.uniform(1, 2, 200),
        "forget_entropy": rng.uniform(1, 2, 50),
    }
    assert compute_one("svc_mia_confidence", observed, {}) == 0.0
    assert compute_one("svc_mia_entropy", observed, {}) == 1.0
    without = {name: values for name, values in observed.items() if "entropy" not in name}
    assert compute_one("svc_mia_entropy", without, {}) is None


def test_few_examples_are_undefined():
    assert np.isnan(non_member_share(np.ones(9), np.ones(50), np.ones(5)))
    assert np.isnan(non_member_share(np.ones(50), np.ones(50), np.ones(0)))
