import time

import pytest

from mubench_ray.engine.estimate import estimate, kept, plan_flos, spoken
from mubench_ray.engine.plan import make_plan
from mubench_ray.models.counts import count
from mubench_ray.suite import load_suite, make_suite


def test_the_bound_is_originals_retrains_and_every_budget(tiny):
    plan = make_plan(make_suite({**tiny, "methods": ["original", "ft"], "ratios": [5, 10], "budget": {"flos": 0.5}}))
    example = count("digits", "cnn-small").training * 300 * 3  # examples, epochs
    # One original, two retrains, and of the trials only the two that take steps, half a retrain each.
    assert plan_flos(plan) == pytest.approx(example * (1 + 1.5 * (0.95 + 0.9)))


def test_what_a_method_keeps_beside_its_networks_is_told(tiny):
    """All gradients of IU's samples where they fit into a block, else a block: 42 GiB of ResNet-18's would not."""
    for model, wanted in (("cnn-small", 50 * 4 * count("digits", "cnn-small").parameters), ("resnet18", 2 * 2**30)):
        plan = make_plan(
            make_suite(
                {**tiny, "models": model, "methods": [{"name": "iu", "samples": 50 if wanted < 2**30 else 1000}]}
            )
        )
        assert kept(plan) == {"iu": wanted}
    assert estimate(plan).endswith("iu keeps up to 2 GiB beside its networks.")
    assert kept(make_plan(make_suite({**tiny, "methods": ["ft", "scrub"]}))) == {}


def test_the_full_benchmark_is_planned_in_seconds(repository):
    suite = load_suite(repository / "jobs" / "mubench.yaml")
    began = time.process_time()
    plan = make_plan(suite)
    told = estimate(plan)
    assert len(plan.trials) > 30_000 and told.startswith("At most ")
    assert time.process_time() - began < 10  # 2 s on an idle core


def test_times_are_spoken_in_a_persons_units():
    assert [spoken(s) for s in (0.01, 5, 90, 7200)] == ["0.1 seconds", "5.0 seconds", "1.5 minutes", "2.0 hours"]
