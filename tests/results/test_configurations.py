"""What counts as a repetition of what, and the names that tell configurations apart."""

from __future__ import annotations

import json

import pytest

from mubench_ray.engine.plan import combinations, make_plan
from mubench_ray.errors import SuiteError
from mubench_ray.results.configurations import UNSAID, configuration, contender_names, how, setting_names, tuned
from mubench_ray.search_schema import Search
from mubench_ray.suite import make_suite
from mubench_ray.trial import ROLES, Trial

BASE = {"name": "t", "tasks": "digits", "models": "cnn-small", "methods": ["retrain", "ft"], "ratios": 5, "lrs": 5e-4}


def trials(**changes) -> list[Trial]:
    return list(make_plan(make_suite({**BASE, "seeds": [1, 2], **changes})).trials.values())


def configurations(*suites: dict) -> set[str]:
    return {trial.configuration for changes in suites for trial in trials(methods="ft", **changes)}


def test_every_field_of_a_trial_has_its_role():
    """A field that is added says what it is, or this fails."""
    assert ROLES.keys() == Trial.model_fields.keys()


def test_seeds_halves_and_ratios_are_no_part_of_it():
    alike = {"ratios": [2, 5]}, {"forget_seeds": [7, 8]}, {"training_seeds": [3]}
    assert len(configurations({}, *alike)) == 1
    assert len(configurations({"halves": 4})) == 1
    assert len(configurations({}, {"halves": 4})) == 2  # a pool of shadow models is another experiment
    assert (
        len(configurations({"ratios": [2, 5, 10], "sequence": True})) == 1
    )  # its first step too, whose id is that of a plain trial
    assert len(configurations({"ratios": 2}, {"ratios": [2, 5], "sequence": True})) == 2


#: What has to make another configuration, beside a suite without it; the names of the two then, where the default is said by nothing.
DIFFERENT = {
    "training of a model": ({"models": {"name": "cnn-small", "training": {"epochs": 2}}}, "cnn-small, epochs 2"),
    "training of the suite": ({"training": {"lr": 0.5}}, "cnn-small, lr 0.5"),
    "a forget set of a class": ({"sampler": {"name": "class", "classes": [3]}, "ratios": 10.2}, "digits (class 3)"),
    "a part of a class": ({"sampler": {"name": "class", "classes": [3], "part": True}}, "digits (part of class 3)"),
    "what a network finds hardest": ({"sampler": "hardest"}, "digits (hardest)"),
    "another sampler": ({"sampler": "uniform"}, "digits (uniform)"),
    "a cut task": ({"tasks": {"name": "digits", "subset": 300}}, "digits[300]"),
    "a pool of halves": ({"halves": 2}, "shadow pool"),
    "a budget": ({"budget": {"flos": 0.2}}, "ft · budget 20 %"),
    "an option of unlearning": ({"unlearning": {"batch_size": 8}}, "ft · batch_size 8"),
    "precision": ({"unlearning": {"compute": "bf16"}}, "ft · compute bf16"),
    "a learning rate": ({"lrs": 1e-5}, "ft · lr 1e-5"),
    "a hyperparameter": ({"methods": [{"name": "ft", "epochs": 7}]}, "ft · epochs 7"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_whatever_else_differs_is_another_line_and_its_name_says_so(what):
    changes, name = DIFFERENT[what]
    plain, other = trials(methods="ft")[0].configuration, trials(**{"methods": "ft"} | changes)[0].configuration
    assert plain != other
    settings, contenders = setting_names([plain, other]), contender_names([plain, other], {})
    lines = [(*settings[text], contenders[text]) for text in (plain, other)]
    assert lines[0] != lines[1] and name in " ".join(lines[1])


def test_pretrained_checkpoints_are_settings_of_their_own():
    plain, given = (
        {"task": "cifar10", "model": "resnet18", "sampler": "uniform"} | more
        for more in ({}, {"pretrained": "published"})
    )
    texts = [json.dumps({"setting": setting, "contender": {"method": "ft"}}) for setting in (plain, given)]
    assert list(setting_names(texts).values()) == [("cifar10", "resnet18"), ("cifar10", "resnet18, pretrained")]


def test_alike_says_nothing_more():
    texts = {trial.configuration for trial in trials(training={"epochs": 2}, sampler="uniform", budget={"flos": 0.5})}
    assert set(setting_names(texts).values()) == {("digits", "cnn-small")}
    assert set(contender_names(texts, {"ft": "Fine-tuning"}).values()) == {"retrain", "Fine-tuning"}


def test_numbers_that_read_alike_still_are_two_lines():
    first, second = (trials(methods="ft", lrs=lr)[0].configuration for lr in (1.00001e-4, 1.00002e-4))
    names = contender_names([first, second], {})
    assert names[first] != names[second]
    first, second = (trials(methods="ft", training={"lr": lr})[0].configuration for lr in (1.00001e-4, 1.00002e-4))
    assert len(set(setting_names([first, second]).values())) == 2


def test_nothing_of_the_loop_or_the_budget_changes_a_control():
    given = {"methods": ["original", "retrain"], "budget": {"flos": 0.2}, "unlearning": {"batch_size": 8}}
    assert {trial.configuration for trial in trials(**given)} == {
        trial.configuration for trial in trials(methods=["original", "retrain"])
    }


def test_a_tuned_method_is_one_contender_at_every_ratio():
    """Whatever each ratio chose: ids as of the same trial without a search, the configuration without the choice."""
    suite = make_suite({**BASE, "ratios": [2, 5], "seeds": [1], "search": {"trials": 2}})
    found = list(make_plan(suite).trials.values())
    assert {trial.configuration for trial in found if trial.method == "ft"} == {found[-1].configuration}
    assert "lr" not in json.loads(found[-1].configuration)["contender"]
    plain = {trial.id for trial in trials(seeds=[1], ratios=[2, 5])}
    assert {trial.id for trial in found} == plain


def test_options_that_a_search_chose_are_no_part_of_its_contender_and_those_set_by_hand_are():
    """Whatever batch size each ratio chose: one line; and the ids of what was chosen are those of the same trial without a search."""
    search = {"trials": 2, "hyperparameters": ["all", "batch_size"], "spaces": {"batch_size": [8, 16]}}
    entry = {"name": "ft", "optimizer": "sgd"}
    suite = make_suite({**BASE, "ratios": [2, 5], "seeds": [1], "methods": [entry], "search": search})
    (combination,) = combinations(suite)
    chosen = [
        combination.tuned_trial(forget, 1, 1, combination.ranges.configuration({"epochs": 5, "batch_size": size}))
        for forget, size in zip(combination.forget_sets, (8, 16), strict=True)
    ]
    assert len({trial.configuration for trial in chosen}) == 1
    contender = json.loads(chosen[0].configuration)["contender"]
    assert contender["unlearning"] == {"optimizer": "sgd"} and contender["tuned"]["options"] == ["batch_size"]
    (plain,) = trials(methods=[entry | {"batch_size": 8}], ratios=[2], seeds=[1])
    assert plain.id == chosen[0].id and plain.unlearning.batch_size == 8
    assert {trial.unlearning.optimizer for trial in trials(methods=[entry, "scrub"])} == {"sgd", "adam"}


def test_what_came_later_to_a_search_goes_unsaid_where_it_is_as_it_was():
    fields = {name: field.get_default() for name, field in Search.model_fields.items()}
    assert {name: fields[name] for name in UNSAID} == UNSAID
    old = how(Search().model_dump(exclude_none=True), "ft", {}, [1e-3])
    assert old.keys() == {
        "strategy", "trials", "sweeps", "seeds", "hyperparameters", "objectives", "points", "generation", "lrs"
    }  # fmt: skip
    new = how(
        make_suite({**BASE, "search": {"preset": "deep_unlearn"}}).search.model_dump(exclude_none=True),
        "prmq",
        {},
        [1e-3],
    )
    assert new.keys() - old.keys() == {*UNSAID, "of_method"}


def row(trial: Trial, **columns) -> dict:
    """What a folder of the release before this column stores of a trial."""
    given = {"task": trial.task, "model": trial.model, "method": trial.method, "lr": trial.lr, "ratio": trial.ratio}
    given |= {"sampler": trial.forget.sampler, "forget_seed": trial.forget.seed, "after": ""}
    given |= {"hyperparameters": json.dumps(trial.hyperparameters), "options": "{}"}
    content = trial.model_dump()
    del content["versions"], content["tuned"]
    return given | {"trial": json.dumps(content)} | columns


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_row_without_the_column_has_the_same_configuration(what):
    for trial in trials(**DIFFERENT[what][0]):
        assert configuration(row(trial)) == trial.configuration
        assert configuration(row(trial, configuration="as stored")) == "as stored"


def test_a_search_of_an_earlier_release_names_its_choices():
    (trial,) = trials(methods="ft", seeds=[1])
    search = {"strategy": "random", "trials": 2, "seeds": [1001]}
    choice = {
        "task": "digits",
        "subset": None,
        "model": "cnn-small",
        "method": "ft",
        "ratio": 5.0,
        "sampler": trial.forget.sampler,
    }
    choice |= {"forget_seed": trial.forget.seed, "lr": trial.lr, "hyperparameters": trial.hyperparameters}
    suite = {"methods": [{"name": "ft", "lrs": None}, {"name": "retrain"}], "lrs": [5e-4]}
    chosen = {"search": search, "choices": [choice]}
    found = json.loads(tuned(trial.configuration, row(trial), chosen, suite))
    assert found["contender"] == {"method": "ft", "tuned": search | {"lrs": [5e-4]}}
    unlike = {"search": search, "choices": [choice | {"lr": 1e-5}]}
    assert tuned(trial.configuration, row(trial), unlike, suite) == trial.configuration


def test_a_search_of_an_earlier_release_has_the_configuration_of_the_same_one_today():
    suite = make_suite(
        {
            **BASE,
            "ratios": [2, 5],
            "seeds": [1],
            "search": {"trials": 2},
            "methods": ["retrain", {"name": "ft", "epochs": 3}],
        }
    )
    trial = next(trial for trial in make_plan(suite).trials.values() if trial.method == "ft")
    choice = {
        "task": "digits",
        "subset": None,
        "model": "cnn-small",
        "method": "ft",
        "ratio": trial.ratio,
        "sampler": trial.forget.sampler,
    }
    choice |= {"forget_seed": trial.forget.seed, "lr": trial.lr, "hyperparameters": trial.hyperparameters}
    plain = Trial.model_validate(trial.model_dump() | {"tuned": None})
    chosen = {"search": suite.search.model_dump(mode="json"), "choices": [choice]}
    assert tuned(plain.configuration, row(plain), chosen, suite.model_dump(mode="json")) == trial.configuration


def test_two_tuned_entries_of_one_method_are_two_lines_or_refused():
    """One of them vanished, and nothing said so."""
    search = {"search": {"trials": 2}, "seeds": [1]}
    two = trials(**search, methods=["retrain", {"name": "ft", "epochs": 1}, {"name": "ft", "epochs": 4}])
    assert len({trial.configuration for trial in two if trial.method == "ft"}) == 2
    assert (
        trials(**search, methods="ft", lrs=[5e-4, 1e-3])[0].configuration
        != trials(**search, methods="ft")[0].configuration
    )
    for entries in (["ft", {"name": "ft", "epochs": 4}], ["ft", {"name": "ft", "lrs": [1e-3]}]):
        with pytest.raises(SuiteError, match="a search may choose the same for both entries of ft"):
            trials(**search, methods=entries)


def test_a_set_of_classes_and_a_number_are_what_they_are_however_they_are_written():
    classes = [{"sampler": {"name": "class", "classes": each, "part": True}} for each in ([3, 5], [5, 3])]
    assert len(configurations(*classes)) == 1
    (trial,) = trials(methods="ft", seeds=[1])
    as_integer = json.dumps({"epochs": 5})
    assert configuration(row(trial, hyperparameters=as_integer)) == trial.configuration
    rewinds = {t.id for value in (True, 1) for t in trials(methods=[{"name": "scrub", "rewind": value}])}
    assert len(rewinds) == 2  # two seeds
