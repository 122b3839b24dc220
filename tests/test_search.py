"""What a search tries, how it judges and chooses."""

import itertools
import math
import re
import tracemalloc

import pytest

from mubench_ray.engine.plan import combinations
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.methods import METHODS
from mubench_ray.methods.base import Space
from mubench_ray.metrics import METRICS, base
from mubench_ray.observations import OBSERVATIONS, Observation
from mubench_ray.randomness import numpy_generator
from mubench_ray.search import (
    OBJECTIVES,
    Configuration,
    Ranges,
    check_objectives,
    choose,
    grid_size,
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


@pytest.mark.parametrize("most", [None, 5, 59, 60])
def test_a_grid_has_the_points_of_the_whole_product(most):
    """As they were drawn when it was made as a whole, so that ids stay."""
    spaces = {"a": Space("uniform", 0, 1), "b": Space("choice", choices=(1, 2, 3)), "c": Space("log_uniform", 1, 9)}
    grid = list(itertools.product(points(spaces["a"], 5), (1, 2, 3), points(spaces["c"], 4)[:4]))
    if most is not None and len(grid) > most:
        grid = [grid[i] for i in sorted(numpy_generator("grid", 7).permutation(len(grid))[:most])]
    spaces["c"] = Space("choice", choices=tuple(points(spaces["c"], 4)))
    found = grid_sweep(Ranges(spaces, Configuration({}, None)), 5, most, 7).ask()
    assert [tuple(each.hyperparameters.values()) for each in found] == grid


def test_no_more_of_a_grid_is_made_than_what_is_drawn_of_it():
    """200 points along each of nine axes: more than there are numbers of 64 bits."""
    wide = Ranges({name: Space("uniform", 0, 1) for name in "abcdefghi"}, Configuration({}, None))
    tracemalloc.start()
    drawn = grid_sweep(wide, 200, 50, 0).ask()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len({str(each) for each in drawn}) == 50 and peak < 2e6
    assert drawn == grid_sweep(wide, 200, 50, 0).ask() != grid_sweep(wide, 200, 50, 1).ask()
    assert grid_size(wide, 200, 50) == 50
    with pytest.raises(MubenchError, match="more than anybody runs"):
        grid_size(wide, 200, None)


@pytest.mark.parametrize("sweep", [grid_sweep, random_sweep])
def test_options_of_the_trial_are_searched_like_hyperparameters(sweep):
    """Unless they are set by hand, or the method has one of its own of that name."""
    names = ["epochs", "batch_size", "weight_decay", "optimizer"]
    searched = ranges(
        "ft", {"optimizer": "sgd"}, [1e-3], names, grid=True, said={"batch_size": Space("choice", choices=(8, 16))}
    )
    drawn = (sweep(searched, 3, 12, 0) if sweep is grid_sweep else sweep(searched, 40, 0)).ask()
    assert {each.options["batch_size"] for each in drawn} == {8, 16}
    assert all(each.options.keys() == {"batch_size", "weight_decay"} for each in drawn)
    assert all(each.hyperparameters.keys() == {"epochs"} and each.lr == 1e-3 for each in drawn)
    own = ranges("fcs", {}, [1e-3], names, grid=True)
    assert own.options == ["batch_size", "optimizer"] and "weight_decay" in own.spaces


def test_a_number_of_epochs_that_is_searched_as_a_whole_one_is_written_as_the_method_has_it():
    """Ids are of the text: 5.0 epochs, and not 5."""
    searched = ranges("ft", {}, [1e-3], "all", False, {"epochs": Space("integer", 1, 37)})
    drawn = {repr(each.hyperparameters["epochs"]) for each in random_sweep(searched, 200, 0).ask()}
    assert drawn == {repr(float(epochs)) for epochs in range(1, 38)} - {"5.0"} | {
        repr(METHODS.get("ft").defaults()["epochs"])
    }


def test_a_range_is_on_the_scale_of_what_it_is_of_unless_one_is_said():
    given = {name: {"low": 1, "high": 8} for name in ("lr", "batch_size", "weight_decay", "epochs", "msteps", "gamma")}
    content = {"hyperparameters": ["all", "batch_size", "weight_decay"], "spaces": given}
    content["spaces"]["alpha"] = {"low": 0.1, "high": 1, "scale": "log"}
    found = make_suite({**SUITE, "search": content}).search.spaces_of("digits", "scrub", 10)
    assert {name: space.kind for name, space in found.items()} == {
        "lr": "log_uniform", "batch_size": "integer", "weight_decay": "log_uniform", "epochs": "integer",
        "msteps": "integer", "gamma": "uniform", "alpha": "log_uniform",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "said", "fault"),
    [
        ("rni", {"early_epochs": Space("integer", 1, 10)}, "early_epochs of rni = 1 is below 2"),
        ("ft", {"batch_size": Space("choice", choices=(64, 0))}, "batch_size of ft = 0"),
        ("ft", {"optimizer": Space("choice", choices=("adagrad",))}, "optimizer of ft = 'adagrad'"),
        ("ft", {"lr": Space("uniform", 0, 1)}, "lr of ft = 0 is not above 0"),
        ("ft", {"weight_decay": Space("log_uniform", 0, 1)}, "a logarithmic scale begins above 0"),
        ("ft", {"batch_size": Space("uniform", 8, 64)}, "takes whole numbers"),
    ],
)
def test_a_space_that_holds_what_the_method_refuses_is_refused(method, said, fault):
    with pytest.raises(MubenchError, match=re.escape(fault)):
        ranges(method, {}, [1e-3], ["all", "batch_size", "optimizer", "weight_decay"], False, said)


def test_an_option_beside_a_method_that_it_does_not_change_is_refused():
    for entry, why in (
        ({"name": "ff", "optimizer": "sgd"}, "no gradient steps"),
        ({"name": "original", "batch_size": 8}, "unlearns nothing"),
    ):
        with pytest.raises(SuiteError, match=why):
            make_suite({**SUITE, "methods": [entry]})


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
    assert (
        choose([(one, (0.3, 0.3)), (two, (0.0, 0.5))]) == 1
        and choose([(one, (0.3, 0.3)), (two, (0.0, 0.5))], "norm") == 0
    )
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
        ({"sweeps": 3, "sweeps_on": "own_seed"}, "each of 3 sweeps one of 1 seeds"),
        ({"chosen_by": "norm", "objectives": {"retrain_time_efficiency": 1}}, "its loss has no best value of 0"),
        ({"spaces": {"batch_size": [64]}}, "'batch_size' is searched of no method of the suite"),
        ({"spaces": {"epochs": {"low": 5, "high": 1}}}, "high = 1 is below low = 5"),
        ({"spaces": {"epochs": {"low": 1}}}, "the ends of a range"),
        ({"spaces": {"epochs": {"low": 1.5, "high": 3, "scale": "integer"}}}, "from one whole number to another"),
        ({"of_tasks": {"digts": {"epochs": [1]}}}, "Did you mean 'digits'"),
    ],
)
def test_a_bad_search_is_refused(search, said):
    with pytest.raises(SuiteError, match=said):
        make_suite({**SUITE, "search": search})


def test_presets_are_the_papers_and_may_be_changed():
    deep = make_suite({**SUITE, "search": {"preset": "deep_unlearn"}}).search
    assert (deep.strategy, deep.sweeps, deep.trials, deep.objectives) == ("nsga3", 3, 100, OBJECTIVES)
    assert (deep.chosen_by, [deep.seeds_of(sweep) for sweep in range(3)]) == ("norm", [[1001], [1002], [1003]])
    grid = make_suite({**SUITE, "search": {"preset": "mu_bench", "seeds": [7, 8]}}).search
    assert (grid.strategy, grid.trials, grid.hyperparameters, grid.seeds) == ("grid", None, "lr", [7, 8])
    assert make_suite({**SUITE, "search": {"preset": "deep_unlearn", "trials": 5}}).search.trials == 5
    own = make_suite({**SUITE, "search": {"preset": "deep_unlearn", "spaces": {"lr": [1e-3, 1e-2]}}}).search
    assert own.spaces["lr"].values == [1e-3, 1e-2] and own.spaces["batch_size"].values == [64, 128, 256]


def test_deep_unlearns_released_search_is_on_reporting_seeds_and_nothing_else_differs():
    fair, released = (
        make_suite({**SUITE, "seeds": [*range(10)], "search": {"preset": name}}).search.model_dump()
        for name in ("deep_unlearn", "deep_unlearn_released")
    )
    differ = {name for name in fair if fair[name] != released[name]}
    assert differ == {"preset", "seeds", "seeds_shared"} and released["seeds"] == [0, 1, 2]
    with pytest.raises(SuiteError, match="0 is a reporting seed too"):
        make_suite({**SUITE, "seeds": [0], "search": {"preset": "deep_unlearn_released", "seeds_shared": False}})


@pytest.mark.parametrize(
    ("task", "epochs", "high", "batches"),
    [("cifar10", 182, 37, (64, 128, 256)), ("mnist", 50, 10, (64, 128, 256)), ("utkface", 50, 10, (64, 128))],
)
def test_deep_unlearns_spaces_follow_its_epochs_and_its_task(task, epochs, high, batches):
    search = make_suite({**SUITE, "search": {"preset": "deep_unlearn"}}).search
    found = {
        name: ranges(name, {}, [1e-3], search.hyperparameters, False, search.spaces_of(task, name, epochs))
        for name in ("ft", "prmq", "scrub", "kde", "rni", "ff", "fcs")
    }
    assert found["ft"].spaces == {
        "epochs": Space("integer", 1, high),
        "lr": Space("log_uniform", 1e-5, 1e-1),
        "batch_size": Space("choice", choices=batches),
        "weight_decay": Space("log_uniform", 1e-5, 1e-1),
    }
    assert found["prmq"].spaces["epochs"] == Space("uniform", 1, high)
    assert found["scrub"].spaces["msteps"] == found["kde"].spaces["warmup_epochs"] == Space("integer", 1, high)
    assert found["rni"].spaces["early_epochs"] == Space("integer", 2, high)
    # It takes no gradient steps; and of a method with a decay of its own that one is meant.
    assert found["ff"].spaces.keys() == {"alpha", "batch_size"}
    assert found["fcs"].options == ["batch_size"] and "weight_decay" in found["fcs"].spaces


def test_bad_t_alone_has_adam_in_deep_unlearn_unless_the_suite_says_otherwise():
    def options(**search):
        entries = ["ft", "bad_t", {"name": "bad_t", "optimizer": "sgd"}]
        suite = make_suite({**SUITE, "methods": entries, "unlearning": {"optimizer": "sgd"}, "search": search})
        return [entry.options for entry in suite.methods]

    assert options(preset="deep_unlearn") == [{}, {"optimizer": "adam"}, {"optimizer": "sgd"}]
    with pytest.raises(SuiteError, match="may choose the same for both entries of bad_t"):
        options()  # the suite's is SGD


def test_methods_have_the_form_of_deep_unlearns_code_unless_the_suite_says_otherwise():
    def entries(**search):
        methods = ["scrub", {"name": "scrub", "rewind": False, "temperature": 1.0}, "iu"]
        return [e.model_extra or {} for e in make_suite({**SUITE, "methods": methods, "search": search}).methods]

    form = {"form": "alternating", "rewind": True, "decay_after": "0.5,0.8,0.9"}
    first, second, third = entries(preset="deep_unlearn")
    assert first == form and second == form | {"rewind": False, "temperature": 1.0} and third == {"samples": 1000}
    plain = make_suite({**SUITE, "search": {"preset": "mu_bench"}}).methods
    assert [entry.model_extra or {} for entry in plain] == [{}, {}]
    named = entries(preset="deep_unlearn", hyperparameters=["all", "form"])[0]
    assert "form" not in named and named["rewind"] is True


def test_learning_rates_of_the_suite_go_before_those_of_the_preset():
    def ends(**more):
        content = {**SUITE, "methods": "ft", "search": {"preset": "deep_unlearn"}} | more
        combination = next(combinations(make_suite({k: v for k, v in content.items() if v is not None})))
        space = combination.ranges.spaces["lr"]
        return space.low, space.high

    assert ends(lrs=None) == (1e-5, 1e-1)
    assert ends(lrs=[1e-4, 1e-3]) == (1e-4, 1e-3)
    said = {"preset": "deep_unlearn", "spaces": {"lr": {"low": 0.01, "high": 0.02, "scale": "log"}}}
    assert ends(lrs=[1e-4, 1e-3], search=said) == (0.01, 0.02)
