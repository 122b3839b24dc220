"""The published counts of Deep Unlearn's Table 1 give its order."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mubench_ray.report.load import load
from mubench_ray.report.noise import noise_floor
from mubench_ray.report.ranking import Standing, cluster, order, rank, ranking_block
from mubench_ray.report.report import make_report
from mubench_ray.report.summary import summarise

#: Deep Unlearn (arXiv 2410.01276), Table 1, by RetDev: times in G1, G2, G3, F of 9 combinations, in the order printed.
RETDEV = {
    "FT": (8, 1, 0, 0), "MSG": (8, 1, 0, 0), "PRMQ": (7, 2, 0, 0), "CT": (7, 1, 1, 0), "KDE": (7, 1, 1, 0),
    "CFW": (7, 1, 1, 0), "FCS": (6, 3, 0, 0), "SalUN": (6, 3, 0, 0), "NG+": (5, 4, 0, 0), "SRL": (5, 4, 0, 0),
    "SCRUB": (4, 3, 1, 1), "BT": (2, 7, 0, 0), "RNI": (2, 7, 0, 0), "CF-k": (2, 3, 2, 2), "IU": (1, 0, 2, 6),
    "EU-k": (0, 5, 0, 4), "GA": (0, 1, 7, 1), "FF": (0, 0, 0, 9),
}  # fmt: skip
#: The same by Indisc.
INDISC = {
    "FT": (6, 3, 0, 0), "MSG": (9, 0, 0, 0), "PRMQ": (6, 3, 0, 0), "CT": (9, 0, 0, 0), "KDE": (7, 2, 0, 0),
    "CFW": (7, 2, 0, 0), "FCS": (5, 4, 0, 0), "SalUN": (6, 3, 0, 0), "NG+": (5, 4, 0, 0), "SRL": (6, 2, 1, 0),
    "SCRUB": (5, 3, 0, 1), "BT": (4, 5, 0, 0), "RNI": (7, 2, 0, 0), "CF-k": (1, 2, 4, 2), "IU": (0, 0, 3, 6),
    "EU-k": (1, 2, 2, 4), "GA": (0, 4, 4, 1), "FF": (0, 0, 0, 9),
}  # fmt: skip


def standings(counts):
    return order(Standing(name, *of) for name, of in reversed(counts.items()))


def test_the_published_counts_give_the_published_order():
    assert [s.counts for s in standings(RETDEV)] == [of[:3] for of in RETDEV.values()]


def test_equal_counts_share_a_rank():
    ranks = {s.label: s.rank for s in standings(RETDEV)}
    assert ranks["FT"] == ranks["MSG"] == 1
    assert ranks["PRMQ"] == 2
    assert ranks["CT"] == ranks["KDE"] == ranks["CFW"] == 3
    assert ranks["FF"] == max(ranks.values()) == 12


def test_order_by_indiscernibility():
    ranks = {s.label: s.rank for s in standings(INDISC)}
    assert ranks["MSG"] == ranks["CT"] == 1
    assert ranks["KDE"] == ranks["CFW"] == ranks["RNI"] == 2
    assert ranks["FT"] == ranks["PRMQ"] == ranks["SalUN"] == 3 < ranks["SRL"]
    assert ranks["GA"] < ranks["IU"] < ranks["FF"]


def test_three_clusters_the_best_first():
    scores = np.array([0.02, 0.9, 0.03, 0.35, 0.01, 0.4])
    assert cluster(scores, higher=False).tolist() == [1, 3, 1, 2, 1, 2]
    assert cluster(-scores, higher=True).tolist() == [1, 3, 1, 2, 1, 2]


def test_average_linkage_is_what_cuts():
    """Single linkage would chain the first four together and leave 10 and 11.5 alone."""
    scores = np.array([0.0, 1.0, 2.1, 3.3, 10.0, 11.5])
    assert cluster(scores, higher=False).tolist() == [1, 1, 2, 2, 3, 3]


def test_clusters_within_the_noise_floor_are_one():
    scores = np.array([0.010, 0.012, 0.014, 0.5])
    assert cluster(scores, higher=False).tolist() == [1, 1, 2, 3]
    assert cluster(scores, higher=False, floor=0.01).tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("scores", "groups"), [([], []), ([0.3], [1]), ([0.3, 0.1], [2, 1]), ([0.2, 0.2, 0.2], [1, 1, 1])]
)
def test_few_or_equal_scores(scores, groups):
    assert cluster(np.array(scores), higher=False).tolist() == groups


def test_too_few_usable_models_is_a_failure(folder):
    folder.controls()
    for seed in range(3):
        folder.add("ft", seed=seed, retention_deviation=0.01)
        folder.add("neggrad", seed=seed, retention_deviation=0.8)
        broken = {"status": "failed", "error": "boom"} if seed == 2 else {"retention_deviation": 0.001}
        folder.add("salun", seed=seed, **broken)
    results = load(folder.root)
    ranked = rank(summarise(results), noise_floor(results), "retention_deviation", higher=False)
    assert [(s.label, s.rank, s.counts, s.failed) for s in ranked] == [
        ("ft", 1, (1, 0, 0), 0),
        ("neggrad", 2, (0, 1, 0), 0),
        ("salun", 3, (0, 0, 0), 1),
    ]


def test_an_undefined_score_is_no_failure(folder):
    """Of a forgotten class RetDev is not defined, at 5 %; SalUn failed there once, and at 10 % has a score."""
    for ratio in (5.0, 10.0):
        folder.controls(ratio=ratio)
        for seed in range(3):
            score = {} if ratio == 5 else {"retention_deviation": 0.2}
            folder.add("ft", seed=seed, ratio=ratio, **score)
            lost = {"status": "diverged", "error": "nan"} if (seed, ratio) == (2, 5.0) else score
            folder.add("salun", seed=seed, ratio=ratio, **lost)
    results = load(folder.root)
    ranked = rank(summarise(results), noise_floor(results), "retention_deviation", higher=False)
    assert [(s.label, s.rank, s.counts, s.failed, s.undefined) for s in ranked] == [
        ("ft", 1, (1, 0, 0), 0, 1),
        ("salun", 1, (1, 0, 0), 1, 0),
    ]
    (table,) = [t for t in ranking_block(make_report(folder.root)).tables if t.caption == "By RetDev"]
    assert table.headers == ["method", "rank", "G1", "G2", "G3", "F", "n/a"]
    assert table.rows == [["ft", "1", "1", "0", "0", "0", "1"], ["salun", "1", "1", "0", "0", "1", "0"]]


def held(folder, **verdicts):
    """What the controls say of RetDev at each ratio, and the table by it."""
    cell = {
        "task": "digits",
        "model": "cnn",
        "metric": "retention_deviation",
        "reason": "the original is not told apart",
    }
    entries = [cell | {"ratio": float(ratio[1:]), "verdict": verdict} for ratio, verdict in verdicts.items()]
    folder.store.write_text("controls.json", json.dumps({"verdicts": entries}))
    (table,) = [t for t in ranking_block(make_report(folder.root)).tables if "RetDev" in t.caption]
    return table


def test_an_untrusted_measure_ranks_nothing(folder):
    """GA is the best at 5 % by a measure that tells nothing there, and the worse at 10 %."""
    for ratio, ga in ((5.0, 0.0), (10.0, 0.9)):
        folder.controls(ratio=ratio)
        for seed in range(3):
            folder.add("ft", seed=seed, ratio=ratio, retention_deviation=0.2)
            folder.add("ga", seed=seed, ratio=ratio, retention_deviation=ga)
    both = held(folder, r5="trusted", r10="trusted")
    assert (both.caption, both.rows) == ("By RetDev", [["ft", "1", *"11000"], ["ga", "1", *"11000"]])
    one = held(folder, r5="untrusted", r10="trusted")
    assert one.rows == [["ft", "1", *"10000"], ["ga", "2", *"01000"]]
    assert one.caption == (
        "By RetDev§, over 1 of 2 (task, model, ratio). Untrusted: digits · cnn · 5 %: the original is not told apart"
    )
    none = held(folder, r5="untrusted", r10="untrusted")
    assert none.headers == ["no ranking, since the measure is untrusted everywhere"]
    assert none.rows == [[f"digits · cnn · {ratio} %: the original is not told apart"] for ratio in (5, 10)]
    marked = held(folder, r5="not checkable", r10="trusted")
    assert (marked.caption, marked.rows) == ("By RetDev?", both.rows)
    assert "? not checkable" in marked.legend or "too few seeds of the controls" in marked.legend
