"""What a search tries, how it judges and chooses."""

import math

import pytest

from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.methods.base import Space
from mubench_ray.metrics import METRICS, base
from mubench_ray.observations import OBSERVATIONS, Observation
from mubench_ray.search import (
    OBJECTIVES,
    Configuration,
    Ranges,
    check_objectives,
    choose,
    grid_sweep,
    losses,
    mean_losses,
    points,
    random_sweep,
    ranges,
)
from mubench_ray.suite import make_suite

SUITE = {"name": "s", "tasks": "digits", "models": "cnn-small", "methods": ["scrub", "ft"], "ratios": 5, "seeds": [1]}


def test_what_the_suite_sets_by_hand_is_not_searched():
    searched = ranges("scrub", {"msteps": 2}, [1e-4, 1e-2], "all", grid=False)
    assert "msteps" not in searched.spaces and searched.fixed.hyperparameters["msteps"] == 2
    assert searched.spaces["lr"] == Space("log_uniform", 1e-4, 1e-2)
    assert {"gamma", "alpha", "epochs"} <= searched.spaces.keys()


def test_only_the_learning_rate_is_searched_where_asked():
    searched = ranges("scrub", {}, [1e-2, 1e-4], "lr", grid=True)
    assert searched.spaces == {"lr": Space("choice", choices=(1e-4, 1e-2))}
    grid = grid_sweep(searched, 3, None, 0).ask()
    assert [each.lr for each in grid] == [1e-4, 1e-2]
    assert grid[0].hyperparameters == searched.fixed.hyperparameters


def test_a_method_without_gradient_steps_has_no_learning_rate():
    assert "lr" not in ranges("ff", {}, [1e-4, 1e-2], "all", grid=False).spaces


def test_random_draws_stay_in_range_and_are_the_same_every_time():
    searched = ranges("scrub", {}, [1e-5, 1e-1], "all", grid=False)
    first, again, other = (random_sweep(searched, 200, seed).ask() for seed in (0, 0, 1))
    assert first == again and first != other and len(first) == 200
    rates = sorted(math.log10(each.lr) for each in first)
    assert rates[0] >= -5 and rates[-1] <= -1
    assert abs(rates[100] + 3) < 0.5, "log-uniform: the median is the geometric middle"
    assert {each.hyperparameters["rewind"] for each in first} == {True, False}
    assert {each.hyperparameters["msteps"] for each in first} == set(range(1, 11)), "both ends of an integer range"


def test_a_grid_that_is_too_large_is_thinned_to_the_same_number_for_every_method():
    searched = Ranges({"a": Space("uniform", 0, 1), "b": Space("choice", choices=(1, 2, 3))}, Configuration({}, None))
    assert len(grid_sweep(searched, 5, None, 0).ask()) == 15
    thinned = grid_sweep(searched, 5, 7, 0).ask()
    assert len(thinned) == 7 and len({str(each) for each in thinned}) == 7


def test_points_lie_on_the_scale_of_their_range():
    assert points(Space("log_uniform", 0.01, 1), 3) == pytest.approx([0.01, 0.1, 1])
    assert points(Space("uniform", 0, 1), 3) == [0, 0.5, 1]
    assert points(Space("integer", 1, 10), 3) == [1, 6, 10] or points(Space("integer", 1, 10), 3) == [1, 5, 10]


def test_losses_are_deep_unlearns():
    row = {"status": "ok", "retain_gap": 0.3, "forget_gap": 0.03, "validation_gap": 0.0, "indisc_validation": 0.9}
    assert losses(row, OBJECTIVES) == pytest.approx((0.1, 0.01, 0.0, 0.1))
    assert losses({**row, "status": "diverged"}, OBJECTIVES) is None
    assert losses({**row, "forget_gap": None}, OBJECTIVES) is None


def test_the_best_usable_configuration_is_chosen_and_the_first_of_equals():
    one, two, three = (Configuration({"a": i}, None) for i in range(3))
    assert choose([(one, None), (two, (0.2, 0.1)), (three, (0.1, 0.2))]) == 1
    assert choose([(one, None)]) is None
    assert mean_losses([(0.0, 1.0), (1.0, 1.0)]) == (0.5, 1.0)
    assert mean_losses([(0.0,), None]) is None


@pytest.mark.parametrize("name", ["test_accuracy", "test_loss", "indisc", "retention_deviation", "transfer_difference"])
def test_selection_never_sees_the_test_set(name):
    with pytest.raises(MubenchError, match=r"never sees D_Test|reads"):
        check_objectives({name: 1})


@pytest.fixture
def plugin(monkeypatch):
    """What a test registers is forgotten after it."""
    METRICS.names()
    monkeypatch.setattr(METRICS, "_things", dict(METRICS._things))
    monkeypatch.setattr(METRICS, "_spellings", dict(METRICS._spellings))
    monkeypatch.setattr(base, "_declared", dict(base._declared))


def test_nor_through_another_metric_a_probe_or_an_array_that_nobody_declared(plugin, monkeypatch):
    """They went by how a name began: a teacher's or a probe's array of D_Test was read."""

    @base.metric("of_a_plugin", direction="lower", cites="a test")
    def of_a_plugin(incompetent_test_log_probs, forget_loss):
        """An array of D_Test that a teacher gives."""
        return 0.0

    @base.metric("through_it", direction="lower", cites="a test")
    def through_it(of_a_plugin, retain_gap):
        """It looks as if it read D_R."""
        return of_a_plugin

    @base.metric("of_my_observation", direction="lower", cites="a test")
    def of_my_observation(sharpness, retain_loss):
        """Of what an observation of a plugin gives."""
        return 0.0

    for name in ("of_a_plugin", "through_it"):
        with pytest.raises(MubenchError, match="reads incompetent_test_log_probs, which comes from D_Test"):
            check_objectives({name: 1})
    with pytest.raises(MubenchError, match=r"reads sharpness, which may come from D_Test for all that is declared"):
        check_objectives({"of_my_observation": 1})
    base.declare("sharpness", of=["D_R"])

    @base.metric("of_an_observation", direction="lower", cites="a test")
    def of_an_observation(forget_curvature):
        """Of an array whose name says less than what was read for it."""
        return 0.0

    assert check_objectives({"of_an_observation": 1})
    kind = type("Curvature", (Observation,), {"gives": ("forget_curvature",), "reads": ("forget", "test")})
    monkeypatch.setitem(OBSERVATIONS._things, "curvature", kind)
    monkeypatch.setitem(OBSERVATIONS._spellings, "curvature", "curvature")
    with pytest.raises(MubenchError, match="reads forget_curvature, which comes from D_Test"):
        check_objectives({"of_an_observation": 1})
    assert check_objectives({"of_my_observation": 1, "relearning_area": 1}) == {
        "of_my_observation": 1.0,
        "relearning_area": 1.0,
    }


def test_what_follows_the_clock_is_declared_too(plugin):
    @base.metric("slowness", direction="lower", cites="a test")
    def slowness(retrain_time_efficiency):
        """Through another metric."""
        return 0.0

    timed = {name for name in METRICS.names() if base.timed(name)}
    assert timed == {"retrain_time_efficiency", "slowness"} and base.timed("seconds") and not base.timed("flos")


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"seeds": [1]}, "1 is a reporting seed too"),
        ({"objectives": {"test_accuracy": 1}}, "never sees D_Test"),
        ({"objectives": {"retain_gap": -1}}, "not above 0"),
        ({"objectives": {"relearning_area": 1}}, "observation relearn_benign gives, which the suite does not ask for"),
        ({"strategy": "random", "trials": None}, "only a grid"),
        ({"hyperparameters": ["alhpa"]}, "no method of the suite has 'alhpa'"),
        ({"strategy": "annealing"}, "search.strategy"),
        ({"trails": 3}, "Did you mean"),
    ],
)
def test_a_bad_search_is_refused(search, said):
    with pytest.raises(SuiteError, match=said):
        make_suite({**SUITE, "search": search})


def test_presets_are_the_papers_and_may_be_changed():
    deep = make_suite({**SUITE, "search": {"preset": "deep_unlearn"}}).search
    assert (deep.strategy, deep.sweeps, deep.trials, deep.objectives) == ("optuna", 3, 100, OBJECTIVES)
    grid = make_suite({**SUITE, "search": {"preset": "mu_bench", "seeds": [7, 8]}}).search
    assert (grid.strategy, grid.trials, grid.hyperparameters, grid.seeds) == ("grid", None, "lr", [7, 8])
    assert make_suite({**SUITE, "search": {"preset": "deep_unlearn", "trials": 5}}).search.trials == 5
