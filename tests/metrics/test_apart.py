import numpy as np
import pytest
from scipy.stats import t, ttest_ind, ttest_rel

from mubench_ray.metrics.apart import PAIRED, UNPAIRED, mean_interval, tell_apart, tell_from


def by_seed(values, first=0):
    return dict(enumerate(values, first))


def test_it_is_welchs_test_and_that_of_pairs_at_their_shares_of_5_percent():
    rng = np.random.default_rng(0)
    for side, name in (("above", "greater"), ("below", "less"), (None, "two-sided")):
        ours, theirs = rng.normal(0.3, 1, 6), rng.normal(0, 2, 6)
        welch = ttest_ind(ours, theirs, equal_var=False, alternative=name).pvalue
        pairs = ttest_rel(ours, theirs, alternative=name).pvalue
        both = tell_apart(by_seed(ours), by_seed(theirs), side)
        assert both.p == pytest.approx(min(1, welch * 0.05 / UNPAIRED, pairs * 0.05 / PAIRED))
        alone = tell_apart(by_seed(ours), by_seed(theirs, 100), side)
        assert alone.p == pytest.approx(min(1, welch * 0.05 / UNPAIRED))
        assert tell_from(by_seed(ours), 0.1, side).p == pytest.approx(
            min(1, ttest_rel(ours, np.full(6, 0.1), alternative=name).pvalue)
        )


def test_numbers_of_seeds_may_differ():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(2, 1, 4), rng.normal(0, 1, 9)
    welch = ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue
    assert tell_apart(by_seed(ours), by_seed(theirs, 100), "above").p == pytest.approx(welch * 0.05 / UNPAIRED)


def test_seeds_that_agree_exactly():
    same = by_seed([0.5] * 5)
    assert tell_apart(same, same, "above").p == 1 and not tell_apart(same, same, None).told
    assert tell_apart(by_seed([0.6] * 5), same, "above").told and not tell_apart(by_seed([0.6] * 5), same, "below").told


def test_the_smallest_difference_is_seen_in_four_cases_of_five():
    """Its own definition, tried: data of a spread, shifted by the difference that this spread lets be seen."""
    rng = np.random.default_rng(2)
    stated = np.median(
        [
            tell_apart(*(by_seed(v, i * 50) for i, v in enumerate(rng.normal(0, 1, (2, 8)))), "above").smallest
            for _ in range(300)
        ]
    )
    seen = [tell_apart(by_seed(a + stated), by_seed(b, 50), "above").told for a, b in rng.normal(0, 1, (600, 2, 8))]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.06)


def test_the_interval_is_students_and_covers_as_it_says():
    values = [0.1, 0.4, 0.2, 0.5]
    expected = t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) / 2)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx(expected)
    covered = [mean_interval(np.random.default_rng(seed).normal(3, 1, 5)).meets(3, 3) for seed in range(1000)]
    assert 0.93 < np.mean(covered) < 0.97
    with pytest.raises(ValueError, match="not 1"):
        mean_interval([1.0])
