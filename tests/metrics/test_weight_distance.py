import numpy as np
import pytest

from mubench_ray.metrics.weight_distance import l2_distance, layer_distance, layer_distances

RETRAIN = {
    "first.weight": np.array([[3.0, 4.0]]),
    "first.bias": np.array([0.0]),
    "second.weight": np.array([1.0, 0.0], dtype=np.float32),
    "norm.num_batches_tracked": np.array(7),
}
STATE = RETRAIN | {
    "first.weight": np.array([[3.0, 4.0 + 1.0]]),
    "second.weight": np.array([1.0, 2.0], dtype=np.float32),
    "norm.num_batches_tracked": np.array(900),
}


def test_euclidean_distance_over_everything_but_counters():
    assert l2_distance(STATE, RETRAIN) == pytest.approx(np.sqrt(1 + 4))
    assert l2_distance(RETRAIN, RETRAIN) == 0.0


def test_each_layer_is_relative_to_the_retrains_norm():
    assert layer_distances(STATE, RETRAIN) == pytest.approx({"first": 1 / 5, "second": 2.0})
    assert layer_distance(STATE, RETRAIN) == pytest.approx(1.1)


def test_a_layer_of_zeros_has_no_relative_distance():
    distances = layer_distances({"a.w": np.ones(2), "b.w": np.ones(2)}, {"a.w": np.zeros(2), "b.w": np.ones(2)})
    assert np.isnan(distances["a"]) and distances["b"] == 0.0
    assert layer_distance({"a.w": np.ones(2), "b.w": np.ones(2)}, {"a.w": np.zeros(2), "b.w": np.ones(2)}) == 0.0
    assert np.isnan(layer_distance({"a.w": np.ones(2)}, {"a.w": np.zeros(2)}))


def test_networks_that_do_not_match_are_refused_by_name():
    with pytest.raises(ValueError, match=r"second\.weight"):
        l2_distance({"first.weight": np.ones(2)}, {"first.weight": np.ones(2), "second.weight": np.ones(2)})
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        l2_distance({"w": np.ones(2)}, {"w": np.ones(3)})
