import re

import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import SuiteError
from mubench_ray.suite import make_suite


def test_grid_is_complete_and_ids_are_unique(tiny):
    plan = make_plan(make_suite({**tiny, "lrs": [1e-4, 5e-4], "seeds": [1, 2]}))
    # original and retrain take no learning rate: one trial a ratio and seed; the other five take two.
    assert len(plan.trials) == (2 + 5 * 2) * 2 * 2
    assert len(plan.originals) == 2
    assert len(plan.retrains) == 4


def test_defaults_are_the_papers():
    suite = make_suite({"name": "d", "tasks": "digits", "models": "cnn-small", "methods": "ft"})
    assert suite.ratios == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert suite.seeds == [42, 87, 21, 100, 13]
    assert suite.lrs == [1e-5, 5e-5, 1e-4, 5e-4]
    assert (suite.unlearning.optimizer, suite.unlearning.batch_size) == ("adam", 32)


def test_training_seeds_cross_with_seeds(tiny):
    plan = make_plan(make_suite({**tiny, "methods": "ft", "ratios": 5, "seeds": [1, 2], "training_seeds": [7, 8, 9]}))
    assert len(plan.trials) == 6
    assert len(plan.originals) == 3


def test_a_method_may_have_its_own_rates(tiny):
    plan = make_plan(make_suite({**tiny, "methods": [{"name": "ft", "lrs": [1e-3, 1e-2]}, "neggrad"], "ratios": 5}))
    assert sorted(t.lr for t in plan.trials.values()) == [5e-4, 1e-3, 1e-2]


def test_what_cannot_apply_is_left_out_with_its_reason(tiny, monkeypatch):
    from mubench_ray.methods import METHODS

    monkeypatch.setattr(METHODS.get("salun"), "refusal", classmethod(lambda cls, task: "for the sake of this test"))
    plan = make_plan(make_suite(tiny))
    assert [(part.what, part.trials, part.reason) for part in plan.left_out] == [
        ("digits x cnn-small x salun", 2, "for the sake of this test")
    ]
    assert all(trial.method != "salun" for trial in plan.trials.values())


def test_training_options_are_validated(tiny):
    with pytest.raises(SuiteError, match=r"training\.epochs = -1"):
        make_plan(make_suite({**tiny, "training": {"epochs": -1}}))


def test_a_list_file_counts_by_its_content(tiny, tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    for path in (first, second):
        path.write_text("\n".join(str(i) for i in range(150)))
    plans = [
        make_plan(make_suite({**tiny, "ratios": 5, "sampler": {"name": "from_file", "path": str(path)}}))
        for path in (first, second)
    ]
    assert plans[0].trials.keys() == plans[1].trials.keys()
    second.write_text("\n".join(str(i) for i in range(1, 151)))
    changed = make_plan(make_suite({**tiny, "ratios": 5, "sampler": {"name": "from_file", "path": str(second)}}))
    assert not plans[0].trials.keys() & changed.trials.keys()


def test_a_subset_larger_than_the_set_is_refused(tiny):
    """It was the whole set under another id."""
    assert make_plan(make_suite({**tiny, "tasks": {"name": "digits", "subset": 1225}})).trials
    with pytest.raises(SuiteError, match="digits has 1225 training examples, subset: 1226 is more"):
        make_plan(make_suite({**tiny, "tasks": {"name": "digits", "subset": 1226}}))


def test_a_method_that_a_network_cannot_serve_is_left_out(tiny):
    plan = make_plan(make_suite({**tiny, "models": ["cnn-small", "vit-tiny"], "methods": ["ct", "cf_k"], "ratios": 5}))
    for part in plan.left_out:
        assert part.reason
    ran = {(trial.model, trial.method) for trial in plan.trials.values()}
    assert ("cnn-small", "ct") in ran and ("cnn-small", "cf_k") in ran


def test_a_task_may_have_its_own_models(tiny):
    tasks = [{"name": "digits", "subset": 300, "models": "vit-tiny"}, "fashion_mnist"]
    plan = make_plan(make_suite({**tiny, "tasks": tasks, "methods": "ft", "ratios": 5}))
    assert {(trial.task, trial.model) for trial in plan.trials.values()} == {
        ("digits", "vit-tiny"),
        ("fashion_mnist", "cnn-small"),
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ["cnn-small", "cnn-small"]}, "models[1] is models[0] (cnn-small) once more"),
        ({"methods": ["ft", {"name": "ft"}]}, "methods[1] is methods[0] (ft) once more"),
        ({"tasks": ["digits", "digits"]}, "tasks[1] is tasks[0] (digits) once more"),
        ({"methods": ["ft", {"name": "ft", "epochs": 5}]}, "digits x cnn-small x ft is named twice"),
        ({"models": ["cnn-small", {"name": "cnn-small", "training": {}, "pretrained": False}]}, "once more"),
        (
            {"models": [{"name": "cnn-small", "workers": 2}, {"name": "cnn-small", "training": {"epochs": 1}}]},
            "2 and 1 workers",
        ),
    ],
)
def test_two_entries_of_one_name_that_do_not_differ_are_refused(tiny, changes, said):
    with pytest.raises(SuiteError) as refused:
        make_plan(make_suite({**tiny, "tasks": "digits", "methods": ["original", "ft"], **changes}))
    assert said in str(refused.value)


def test_a_task_with_models_of_its_own_takes_every_entry_of_that_name(tiny):
    """The last of them alone was taken."""
    models = [{"name": "cnn-small", "training": {"epochs": epochs}} for epochs in (1, 2)]
    tasks = [{"name": "digits", "subset": 300, "models": "cnn-small"}]
    plan = make_plan(
        make_suite({**tiny, "tasks": tasks, "models": [*models, "vit-tiny"], "methods": "ft", "ratios": 5})
    )
    assert [trial.training.epochs for trial in plan.trials.values()] == [1, 2]


@pytest.mark.parametrize(
    ("ratios", "says"),
    [([5, 5.1], "5 and 5.1 % of 300 examples of digits are the same 15"), ([0.1, 5], "0.1 % of 300")],
)
def test_two_ratios_of_one_set_and_a_ratio_of_none_are_refused(ratios, says):
    suite = {"name": "r", "tasks": {"name": "digits", "subset": 300}, "models": "cnn-small", "methods": "ft"}
    with pytest.raises(SuiteError, match=re.escape(says)):
        make_plan(make_suite({**suite, "ratios": ratios}))
