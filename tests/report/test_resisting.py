from __future__ import annotations

import pytest

from mubench_ray.report.load import load
from mubench_ray.report.resisting import resisting


def test_excess_over_the_retrain_by_hand(folder):
    folder.add("retrain", examples={7: (0, -1.0), 9: (1, 3.0)})
    folder.add("ft", examples={7: (1, 4.0), 9: (1, 3.5)})
    folder.add("neggrad", examples={7: (1, 2.0), 9: (0, -5.0)})
    rows = resisting(load(folder.root))
    found = {(row["example"], row["method"]): row for row in rows}
    assert found["#7 (class 3)", "ft"]["excess"] == pytest.approx(5.0)
    assert found["#9 (class 3)", "neggrad"]["excess"] == pytest.approx(-8.0)
    assert found["#7 (class 3)", "ft"]["kept"] == 1.0 and found["#7 (class 3)", "ft"]["retrained"] == 0.0
    assert [row["place"] for row in rows if row["method"] == "ft"] == [0, 1]  # 7 resists, 9 does not
    assert rows[0]["example"] == "#7 (class 3)"


def test_compared_with_the_retrain_of_the_same_ratio(folder):
    for ratio, confidence in ((5.0, 0.0), (10.0, 2.0)):
        folder.add("retrain", ratio=ratio, examples={1: (1, confidence)})
        folder.add("ft", ratio=ratio, examples={1: (1, confidence + ratio)})
    (row,) = resisting(load(folder.root))
    assert row["excess"] == pytest.approx(7.5)


def test_failed_trials_and_folders_without_examples(folder):
    assert resisting(load(folder.root)) == []
    folder.add("ft", status="failed", error="boom", examples={1: (1, 1.0)})
    assert resisting(load(folder.root)) == []
