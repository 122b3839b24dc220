import numpy as np
import pytest

from mubench_ray.metrics.transfer import transfer_difference


def test_lost_robustness_is_negative_and_sizes_may_differ():
    assert transfer_difference(np.array([1.0, 0, 0, 0]), np.array([1.0, 0])) == pytest.approx(-0.25)
    assert transfer_difference(np.ones(4), np.ones(4)) == 0.0
