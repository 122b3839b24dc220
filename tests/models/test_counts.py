"""The counts that are kept beside the models are those of the networks, and all that is planned with is there."""

import pytest

from mubench_ray.models import MODELS
from mubench_ray.models.counts import count, kept, recount
from mubench_ray.suite import load_suite

#: Pairs that take seconds to count.
SLOW = {"vilt", "convnext", "videomae-large", "alpaca-13b", "vicuna-13b", "hubert-xlarge", "t5-xl", "t5-large"}
PAIRS = [(task, model) for model, tasks in kept().items() for task in tasks if model not in SLOW]


def test_every_model_has_a_count():
    assert set(kept()) == set(MODELS.names())


@pytest.mark.parametrize("suite", ["mubench", "deep_unlearn", "quickstart"])
def test_a_plan_of_ours_counts_nothing(suite, repository):
    content = load_suite(repository / "jobs" / f"{suite}.yaml")
    pairs = {(task.name, model.name) for task in content.tasks for model in content.models_of(task)}
    assert not {(task, model) for task, model in pairs if task not in kept()[model]}


@pytest.mark.parametrize(("task", "model"), PAIRS[::3])
def test_counts_are_those_of_the_network(task, model):
    if model.startswith("stable-diffusion"):
        pytest.importorskip("diffusers")
    assert tuple(recount(task, model)) == pytest.approx(tuple(kept()[model][task]))


def test_what_is_not_kept_is_counted():
    assert "mnist" not in kept()["cnn-small"]
    assert count("mnist", "cnn-small").training > count("digits", "cnn-small").training > 0
