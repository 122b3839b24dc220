import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from mubench_ray.metrics.class_damage import worst_class_drop


def test_it_is_the_largest_difference_of_recalls():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, 600)
    ours, retrains = (np.where(rng.random(600) < accuracy[label], label, (label + 1) % 5)
                      for accuracy in (np.array([0.9, 0.9, 0.4, 0.9, 0.8]), np.full(5, 0.9)))  # fmt: skip
    recall = [np.diag(table) / table.sum(1) for table in (confusion_matrix(label, each) for each in (ours, retrains))]
    found = worst_class_drop(label, (ours == label).astype(float), (retrains == label).astype(float))
    assert found == pytest.approx((recall[1] - recall[0]).max()) and found > 0.4


def test_a_lost_class_shows_that_the_mean_hides():
    label = np.repeat(np.arange(100), 10)
    assert worst_class_drop(label, (label != 42).astype(float), np.ones(1000)) == 1.0
    assert worst_class_drop(label, np.ones(1000), (label != 42).astype(float)) == 0.0


def test_classes_of_few_examples_are_passed_over():
    label = np.repeat([0, 1, 2], [20, 20, 9])
    wrong = (label != 2).astype(float)
    assert worst_class_drop(label, wrong, np.ones(49)) == 0.0
    assert np.isnan(worst_class_drop(label[20:], wrong[20:], np.ones(29)))
