import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from mubench_ray.metrics.output_distance import js_divergence, kl_divergence, knowledge_gap, zrf


def rows(seed, size=40, classes=6):
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(classes), size))


def test_divergences_agree_with_scipy():
    p, q = rows(0), rows(1)
    assert kl_divergence(p, q) == pytest.approx(entropy(np.exp(p), np.exp(q), axis=1))
    assert js_divergence(p, q) == pytest.approx(jensenshannon(np.exp(p), np.exp(q), base=2, axis=1) ** 2)


def test_classes_without_mass_count_nothing():
    with np.errstate(divide="ignore"):
        sure, other = np.log([[1.0, 0.0]]), np.log([[0.0, 1.0]])
    assert js_divergence(sure, other).tolist() == [1.0]
    assert js_divergence(sure, sure).tolist() == [0.0]
    assert kl_divergence(sure, np.log([[0.5, 0.5]])) == pytest.approx([np.log(2)])


def test_zrf_of_the_teacher_itself_and_of_its_opposite():
    assert zrf(rows(0), rows(0)) == pytest.approx(1.0)
    with np.errstate(divide="ignore"):
        assert zrf(np.log([[1.0, 0.0]]), np.log([[0.0, 1.0]])) == 0.0


def test_zrf_by_hand():
    p, q = np.array([0.9, 0.1]), np.array([0.5, 0.5])
    middle = (p + q) / 2
    divergence = ((p * np.log2(p / middle)).sum() + (q * np.log2(q / middle)).sum()) / 2
    assert zrf(np.log([p]), np.log([q])) == pytest.approx(1 - divergence)


def test_the_knowledge_gap_by_hand_and_closed():
    p, q, u = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]]), np.log([[0.8, 0.2]])
    assert knowledge_gap(p, q, u, q) == pytest.approx(entropy([0.9, 0.1], [0.5, 0.5]) - entropy([0.8, 0.2], [0.5, 0.5]))
    assert knowledge_gap(u, q, p, q) == pytest.approx(knowledge_gap(p, q, u, q))  # too foreign is a gap as well
    assert knowledge_gap(rows(0), rows(1), rows(0), rows(1)) == 0.0
