import subprocess
import sys

import numpy as np
import pytest

from mubench_ray.errors import UnknownName
from mubench_ray.metrics import METRICS, compute_all, compute_one
from mubench_ray.metrics.base import is_observed, reads


def test_a_metric_may_read_another_and_is_computed_once():
    values = {}
    assert (
        compute_one("mia_advantage", {"forget_loss": np.array([1.0, 2]), "test_loss": np.array([3.0, 4])}, values)
        == 0.5
    )
    assert values["mia_auc"] == 1.0


def test_what_was_computed_before_is_taken_as_it_is():
    assert compute_one("indisc", {}, {"u_mia": 0.75}) == 0.5


@pytest.mark.parametrize("losses", [[], [np.nan, 1.0], None])
def test_absent_empty_or_nan_arrays_make_none_and_never_a_number(losses):
    values = {}
    array = None if losses is None else np.array(losses, float)
    assert compute_one("u_mia", {"forget_loss": array, "test_loss": np.ones(20)}, values) is None
    assert compute_one("indisc", {"forget_loss": array, "test_loss": np.ones(20)}, values) is None


def test_an_array_is_not_replaced_by_the_metric_of_the_same_name():
    # test_loss is an array and a metric, its mean: without the array there is no attack.
    assert compute_one("mia_auc", {"forget_loss": np.ones(3)}, {"test_loss": 0.7}) is None


def test_an_infinite_loss_is_observed_but_an_infinite_value_is_not_a_value():
    losses = np.array([np.inf, 1.0, 2.0])
    assert is_observed(losses)
    assert compute_one("forget_loss", {"forget_loss": losses}, {}) is None
    assert compute_one("mia_auc", {"forget_loss": losses, "test_loss": np.array([5.0])}, {}) == pytest.approx(2 / 3)


def test_reads_follows_metrics_down_to_arrays():
    assert reads("indisc") == {"forget_loss", "test_loss", "seed"}
    assert reads("test_loss") == {"test_loss"}
    assert reads("retain_mia_excess") == {"retain_loss", "test_loss", "retrain_retain_loss", "retrain_test_loss"}


def test_nothing_observed_gives_none_everywhere():
    assert set(compute_all({}).values()) == {None}
    assert set(compute_all({})) == set(METRICS.names())


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="indisc"):
        METRICS.get("indiscc")


def test_importing_metrics_and_controls_needs_neither_torch_nor_ray_nor_sklearn():
    code = (
        "import sys, mubench_ray.metrics as m, mubench_ray.metrics.controls; m.METRICS.names();"
        "print(sorted({'torch', 'ray', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
