"""What fits a budget, beside trying every share."""

import numpy as np
import pytest

from mubench_ray.training.fitting import Cost, fit


def spent(costs, finish, steps):
    stepping = sum(sum(cost.steps[:n]) for cost, n in zip(costs, steps))
    return stepping + sum(cost.before + cost.after for cost in costs) + finish


def by_hand(costs, finish, cap):
    """The most steps of any share that fit; every share at which some phase gains a step is tried."""
    best = None
    for share in sorted({k / len(c.steps) for c in costs for k in range(1, len(c.steps) + 1)} | {1e-9}):
        steps = [max(1, int(share * len(cost.steps) + 1e-9)) for cost in costs]
        if spent(costs, finish, steps) <= cap:
            best = steps
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_share_that_pays_for_hooks_and_finish(seed):
    rng = np.random.default_rng(seed)
    costs = [
        Cost(float(rng.integers(20)), rng.integers(1, 99, rng.integers(1, 30)).tolist(), float(rng.integers(20)))
        for _ in range(rng.integers(1, 5))
    ]
    everything = [len(cost.steps) for cost in costs]
    whole = spent(costs, 7.0, everything)
    for cap in rng.uniform(0, 1.2 * whole, 20):
        found = fit(costs, 7.0, cap)
        wanted = by_hand(costs, 7.0, cap)
        if wanted is None:
            assert found.steps == [1] * len(costs)
            continue
        assert spent(costs, 7.0, found.steps) <= cap
        for place, (given, least) in enumerate(zip(found.steps, wanted)):
            longer = [n + (place == other) for other, n in enumerate(found.steps)]
            assert given - least in (0, 1)
            assert given in (least + 1, everything[place]) or spent(costs, 7.0, longer) > cap
        assert found.complete == (found.steps == everything)
    assert fit(costs, 7.0, None).steps == everything


def test_whole_phases_are_shortened_last():
    costs = [Cost(0, [1] * 10, 0, whole=True), Cost(0, [1] * 10, 0)]
    assert [fit(costs, 0, cap).steps for cap in (20, 15, 11, 8, 1)] == [[10, 10], [10, 5], [10, 1], [4, 4], [1, 1]]


def test_shares_of_the_run_grow_to_one():
    costs = [Cost(1, [1] * 4, 2), Cost(0, [6], 0)]
    fitted = fit(costs, 7, None)
    assert fitted.steps_by == [5 / 20, 13 / 20]
    assert fit(costs, 0, None).steps_by == [5 / 13, 1]


def test_where_costs_are_not_known_all_the_time_is_there_for_each():
    fitted = fit([Cost(0, [0] * 3, 0)] * 2, 0, None)
    assert fitted.steps == [3, 3] and fitted.steps_by == [1, 1]


def test_a_phase_of_no_steps_has_none():
    assert fit([Cost(1, [], 1), Cost(0, [1] * 4, 0)], 0, 4).steps == [0, 2]
