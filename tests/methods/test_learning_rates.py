"""Every method says at what learning rate it runs, in which range it is searched, and where that is from."""

import re

import pytest

from mubench_ray.engine.plan import combinations, make_plan
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.listing import details
from mubench_ray.methods import METHODS, LearningRate, Method, method, uniform
from mubench_ray.methods.base import Space
from mubench_ray.methods.learning_rates import GENERIC
from mubench_ray.suite import make_suite
from mubench_ray.trainer import UnlearningArguments
from mubench_ray.trial import Unlearning

SUITE = {"name": "s", "tasks": "digits", "models": "cnn-small", "ratios": 5, "seeds": [1]}
WITH_RATE = sorted(name for name, cls in METHODS if cls.uses_lr)


@pytest.mark.parametrize("name", WITH_RATE)
def test_a_method_declares_its_own_for_both_optimizers_and_says_where_from(name):
    own = METHODS.get(name).learning_rates
    assert own.keys() == {"adam", "adamw", "sgd"}
    for optimizer, rate in own.items():
        assert 0 < rate.low <= rate.default <= rate.high < 10 and rate.high >= 10 * rate.low
        assert "generic: " not in rate.source, optimizer
        assert re.search(r"arXiv \d{4}\.\d{5}|docs/\w+", rate.source), rate.source
    assert f"adam {own['adam'].default:g} in [" in details(["methods"], name)["methods"]["learning rate"]


def test_without_gradient_steps_there_is_none():
    assert all(not cls.learning_rates for _, cls in METHODS if not cls.uses_lr)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_suite_that_asks_for_the_default_runs_each_method_at_its_own(optimizer):
    suite = {**SUITE, "methods": ["ft", "iu", {"name": "ct", "lrs": 0.5}], "unlearning": {"optimizer": optimizer}}
    trials = make_plan(make_suite({**suite, "lrs": "default"})).trials.values()
    expected = METHODS.get("ft").learning_rates[optimizer].default
    assert {t.method: t.lr for t in trials} == {"ft": expected, "iu": None, "ct": 0.5}
    # It is the number that is in an id: spelled out it is the same trial.
    spelled = {**suite, "methods": [{"name": "ft", "lrs": expected}]}
    assert set(make_plan(make_suite(spelled)).trials) < {t.id for t in trials}


@pytest.mark.parametrize("strategy", ["grid", "random"])
def test_a_search_goes_through_the_methods_own_range(strategy):
    methods = ["ft", {"name": "msg", "lrs": "default"}]
    suite = make_suite({**SUITE, "methods": methods, "search": {"strategy": strategy, "hyperparameters": "lr"}})
    spaces = {c.entry.name: c.ranges.spaces["lr"] for c in combinations(suite)}
    rate = METHODS.get("msg").learning_rates["adam"]
    assert spaces["msg"] == Space("log_uniform", rate.low, rate.high)
    assert spaces["ft"].kind == (
        "choice" if strategy == "grid" else "log_uniform"
    )  # the suite's grid means what it did
    assert (min(spaces["ft"].choices or [spaces["ft"].low]), suite.lrs) == (1e-5, [1e-5, 5e-5, 1e-4, 5e-4])
    tuned = {t.method: t.tuned["lrs"] for t in make_plan(suite).trials.values()}
    assert tuned == {"ft": [1e-5, 5e-5, 1e-4, 5e-4], "msg": [f"{rate.low:g} to {rate.high:g}"]}


@pytest.mark.parametrize(
    "lrs, told",
    [("defualt", "lrs = 'defualt': Input should be 'default'"), ([0.1, -1], "lrs[1] = -1"), ([], "lrs = []"), (["default"], "lrs[0] = 'default'")],
)  # fmt: skip
def test_what_are_no_learning_rates_is_refused(lrs, told):
    with pytest.raises(SuiteError, match=re.escape(told)):
        make_suite({**SUITE, "methods": ["ft"], "lrs": lrs})
    with pytest.raises(SuiteError, match=re.escape(f"methods[0].{told}")):
        make_suite({**SUITE, "methods": [{"name": "ft", "lrs": lrs}]})


@pytest.mark.parametrize(
    "numbers", [(1e-3, 1e-2, 1e-1), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (1e-3, 1e-1, 1e-4), (float("nan"), 1e-4, 1.0)]
)
def test_what_is_no_range_is_refused_where_it_is_written(numbers):
    with pytest.raises(MubenchError, match="a learning rate of"):
        LearningRate(*numbers, "me")
    with pytest.raises(MubenchError, match="name its source"):
        LearningRate(1e-3, 1e-4, 1e-2, " ")


@pytest.fixture
def registry(monkeypatch):
    """Methods of which what a test adds is forgotten."""
    METHODS.names()
    for part in ("_things", "_spellings"):
        monkeypatch.setattr(METHODS, part, dict(getattr(METHODS, part)))


def declare(rates):
    @method("of_a_plugin", title="P", cites="me, 2026")
    class Plugin(Method):
        """A method of a plugin."""

        epochs: float = uniform(1, 10, default=1)
        learning_rates = rates

    return Plugin


def test_of_a_plugin_what_is_not_declared_is_generic(registry):
    mine = LearningRate(0.5, 0.1, 1.0, "me")
    assert declare({"adam": mine}).learning_rates == {"adam": mine, "adamw": mine, "sgd": GENERIC["sgd"]}
    assert all(rate.source.startswith("generic: ") for rate in GENERIC.values())


@pytest.mark.parametrize(
    "rates, told", [({"adma": GENERIC["adam"]}, "'adma', no optimiser"), ({"adam": 1e-3}, "no LearningRate")]
)
def test_a_plugin_with_malformed_ones_is_refused_as_it_is_read(rates, told, registry):
    with pytest.raises(MubenchError, match=f"method of_a_plugin: .*{told}"):
        declare(rates)
    assert "of_a_plugin" not in METHODS.names()


def test_a_method_that_declares_none_has_the_generic_ones():
    assert Method.learning_rates == GENERIC and set(GENERIC) == set(
        Unlearning.model_fields["optimizer"].annotation.__args__
    )


def test_the_trainer_takes_the_methods_own_too():
    arguments = UnlearningArguments("ct", "cnn-small", "digits", 5, learning_rate="default", optim="sgd")
    assert arguments.to_trial().lr == METHODS.get("ct").learning_rates["sgd"].default
    assert UnlearningArguments("ct", "cnn-small", "digits", 5).to_trial().lr == 5e-5  # as ever
