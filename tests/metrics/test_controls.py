import json

import numpy as np
import pytest

from mubench_ray.metrics.chance import auc_by_chance
from mubench_ray.metrics.controls import check_metric, gate, gate_groups
from mubench_ray.metrics.retention import retention_deviation

LEAK = {1: 0.70, 2: 0.72, 3: 0.71, 4: 0.69, 5: 0.73}
CHANCE = {1: 0.50, 2: 0.51, 3: 0.49, 4: 0.52, 5: 0.48}


def check(original, retrain, **options):
    return check_metric("u_mia", original, retrain, ideal=0.5, side="above", **options)


def test_original_told_apart_and_retrain_not_is_trusted():
    found = check(LEAK, CHANCE)
    assert found.verdict == "trusted" and "0.71" in found.reason
    assert found.original.mean == pytest.approx(0.71) and found.retrain.low < 0.5 < found.retrain.high


def test_a_metric_blind_to_the_original_is_untrusted():
    found = check(CHANCE, {seed: value + 0.004 for seed, value in CHANCE.items()})
    assert found.verdict == "untrusted" and "original is not told apart" in found.reason


def test_a_metric_that_accuses_the_retrain_is_untrusted():
    found = check({seed: 0.9 + seed / 1000 for seed in LEAK}, LEAK)
    assert found.verdict == "untrusted" and "retrain is told apart" in found.reason


def test_telling_apart_in_the_wrong_direction_is_no_pass():
    # The original looks cleaner than the retrain.
    found = check({s: 0.500 for s in CHANCE}, {s: v + 0.015 for s, v in CHANCE.items()})
    assert found.verdict == "untrusted" and "original is not told apart" in found.reason


def test_the_difference_is_paired_by_seed():
    # Seeds differ by much more than the leak, but every one of them leaks.
    retrain = {seed: 0.5 + shift for seed, shift in zip(range(5), (-0.2, -0.1, 0.0, 0.1, 0.2))}
    original = {seed: value + 0.05 + seed / 1000 for seed, value in retrain.items()}
    found = check(original, retrain)
    assert found.verdict == "trusted" and found.original.low < found.retrain.high


def test_what_one_small_forget_set_causes_is_tolerated_and_no_more():
    biased = {seed: 0.55 + seed / 10_000 for seed in range(5)}  # all seeds share one D_F of 100
    leak = {seed: 0.8 + seed / 1000 for seed in range(5)}
    assert check(leak, biased).verdict == "untrusted"
    assert check(leak, biased, chance=auc_by_chance(100, 100)).verdict == "trusted"
    assert check(leak, biased, chance=auc_by_chance(10_000, 10_000)).verdict == "untrusted"


@pytest.mark.parametrize(
    "original, retrain", [({}, {}), ({1: 0.7, 2: 0.7}, {1: 0.5, 2: 0.5}), (LEAK, {7: 0.5, 8: 0.5}), (LEAK,
    dict.fromkeys(LEAK)),
                          (LEAK, dict.fromkeys(LEAK, float("nan")))]
)  # fmt: skip
def test_fewer_than_three_seeds_of_either_cannot_be_checked(original, retrain):
    found = check(original, retrain)
    assert found.verdict == "not checkable" and "at least 3 seeds" in found.reason and found.original is None


def test_seeds_need_not_be_the_same():
    assert check(LEAK, {seed + 100: value for seed, value in CHANCE.items()}).verdict == "trusted"


def test_of_few_seeds_what_is_seen_counts_and_what_is_not_means_nothing():
    first = {seed: LEAK[seed] for seed in (1, 2, 3)}, {seed: CHANCE[seed] for seed in (1, 2, 3)}
    assert check(*first).verdict == "trusted"
    near = check({1: 0.51, 2: 0.50, 3: 0.52}, first[1])
    assert near.verdict == "not checkable" and "at 3 seeds" in near.reason
    accused = check({seed: 0.9 + seed / 1000 for seed in (1, 2, 3)}, first[0])
    assert accused.verdict == "untrusted"  # the retrain at .7 is seen


def test_the_smallest_difference_shrinks_with_seeds_and_grows_with_their_spread():
    def smallest(seeds, spread):
        values = {seed: 0.5 + spread * (-1) ** seed for seed in range(seeds)}
        return check(values, {seed + 50: value for seed, value in values.items()}).smallest_difference

    assert smallest(4, 0.01) > smallest(8, 0.01) > smallest(16, 0.01)
    assert smallest(8, 0.02) == pytest.approx(2 * smallest(8, 0.01))


def test_seeds_that_agree_exactly_do_not_say_what_difference_would_have_been_seen():
    """A TPR at a low FPR is 0 of every seed of both: that said that a difference of 0 would have been seen."""
    none = dict.fromkeys(range(5), 0.0)
    found = check_metric("mia_tpr_at_1_percent_fpr", none, none, ideal=0.0, side="above")
    assert (found.verdict, found.smallest_difference) == ("untrusted", None)
    assert found.reason.endswith("all 5 seeds agree exactly, which does not say what difference would have been seen")
    # Equal in each seed, over which they vary: this says it.
    stated = check(CHANCE, CHANCE).smallest_difference
    assert stated is not None and stated > 0.001


def test_a_distance_from_the_ideal_is_never_0_and_only_one_that_all_retrains_share_accuses():
    def folded(retrain):
        original = {seed: 5.0 + seed / 10 for seed in range(5)}
        return check_metric("gap", original, retrain, ideal=0.0, side="above", folded=True).verdict

    assert folded({0: 0.1, 1: 0.9, 2: 0.4, 3: 0.7, 4: 1.2}) == "trusted"
    assert folded({0: 1.1, 1: 0.9, 2: 1.0, 3: 0.95, 4: 1.2}) == "untrusted"


def row(method, seed, **values):
    fixed = {
        "task": "digits",
        "model": "cnn",
        "ratio": 5.0,
        "sampler": "uniform",
        "forget_seed": 42,
        "status": "ok",
        "forget_size": 500,
    }
    return {**fixed, "method": method, "seed": seed, "training_seed": seed, **values}


def controls(**metric_of):
    return [
        row(method, seed, **{name: of(method, seed) for name, of in metric_of.items()})
        for method in ("original", "retrain")
        for seed in range(5)
    ]


def leaky(method, seed):
    return (0.8 if method == "original" else 0.5) + seed / 1000


def test_the_gate_checks_every_forgetting_metric_of_every_cell():
    rows = controls(
        u_mia=leaky, mia_auc=lambda method, seed: 0.5 + seed / 1000, test_accuracy=leaky, indisc=lambda *_: None
    )
    rows += [{**each, "ratio": 10.0, "u_mia": None} for each in rows] + [row("ft", 1, u_mia=0.9)]
    verdicts = {(each["ratio"], each["metric"]): each for each in gate(rows)}
    assert set(verdicts) == {(ratio, name) for ratio in (5.0, 10.0) for name in ("u_mia", "mia_auc")}
    assert verdicts[5.0, "u_mia"]["verdict"] == "trusted"
    assert verdicts[5.0, "mia_auc"]["verdict"] == "untrusted"
    assert verdicts[10.0, "u_mia"]["verdict"] == "not checkable"
    assert json.loads(json.dumps(list(verdicts.values())))


def test_the_gate_leaves_failed_rows_out_and_counts_a_training_once():
    rows = controls(u_mia=leaky)
    failed = [{**each, "status": "failed", "u_mia": 0.1} for each in rows]
    repeated = [{**each, "seed": each["seed"] + 100} for each in rows]
    [verdict] = gate(rows + failed + repeated)
    assert verdict["verdict"] == "trusted" and verdict["original"]["seeds"] == 5


def accuracies(original, retrain, test=(0.86, 0.85, 0.87, 0.86, 0.84)):
    """Rows of both controls with these accuracies on D_F by seed, and RetDev as rows have it: 0 for every retrain."""
    rows = []
    for method, forget in (("original", original), ("retrain", retrain)):
        for seed, value in enumerate(forget):
            ours, own = ([np.array([each]) for each in (0.99, of, test[seed])] for of in (value, retrain[seed]))
            rows.append(
                row(method, seed, retain_accuracy=0.99, forget_accuracy=value, test_accuracy=test[seed])
                | {"retention_deviation": retention_deviation(*ours, *own)}
                | {"forget_gap": abs(value - retrain[seed]), "forget_retention": value / retrain[seed]}
            )
    return rows


def test_a_distance_to_the_retrain_is_held_to_what_retrains_are_from_each_other():
    """Against the retrain's own 0 every original is told apart, one of the retrain's law too."""
    apart = {each["metric"]: each for each in gate(accuracies([0.95] * 5, [0.85, 0.86, 0.84, 0.87, 0.83]))}
    assert {each["verdict"] for each in apart.values()} == {"trusted"}
    deviation = apart["retention_deviation"]
    others = (0.85, 0.86, 0.84, 0.87, 0.83)
    forget = [abs(a / b - 1) for i, a in enumerate(others) for j, b in enumerate(others) if i != j]
    test = (0.86, 0.85, 0.87, 0.86, 0.84)
    further = [abs(a / b - 1) for i, a in enumerate(test) for j, b in enumerate(test) if i != j]
    assert deviation["floor"] == pytest.approx((sum(forget) + sum(further)) / 20)
    alike = {each["metric"]: each for each in gate(accuracies([0.86, 0.84, 0.85, 0.83, 0.87], others))}
    assert {each["verdict"] for each in alike.values()} == {"untrusted"}
    for name, unit in (("retention_deviation", 0.85), ("forget_retention", 0.85), ("forget_gap", 1.0)):
        # What would have been seen on D_F, in the metric's own unit.
        seen = alike[name]["smallest_difference"] * unit
        assert seen == pytest.approx(alike["forget_gap"]["smallest_difference"])
        assert f"{alike[name]['smallest_difference']:.3g} would have been seen" in alike[name]["reason"]


def test_a_distance_of_which_that_to_other_retrains_is_not_known_is_not_checkable():
    rows = controls(theirs=lambda method, seed: 0.3 if method == "original" else 0.0)
    (verdict,) = gate(rows, {"theirs": {"ideal": 0.0, "low": 0.0, "high": None, "self_referential": True}})
    assert verdict["verdict"] == "not checkable" and "to others" in verdict["reason"]
    bare = controls(retention_deviation=lambda method, seed: 0.3 + seed / 100 if method == "original" else 0.0)
    assert [each["verdict"] for each in gate(bare)] == ["not checkable"]  # no accuracies


def test_a_side_of_the_retrain_that_a_metric_tells_is_tested_on_the_original_alone():
    def gains(shift):
        of = controls(relearning_area=lambda method, seed: (method == "original") * (shift + (-1) ** seed * 0.1))
        return gate(of)[0]["verdict"]

    assert (gains(0.5), gains(-0.5), gains(0.01)) == ("trusted", "untrusted", "untrusted")


def test_a_ratio_to_the_retrain_is_tested_where_both_ways_are_alike():
    """2 and 1 / 2 are one deviation; their mean is above 1."""
    found = gate(controls(relearning_steps_share=lambda method, seed: [0.5, 2, 0.25, 4, 1][seed]))[0]
    assert found["verdict"] == "untrusted" and found["p"] == pytest.approx(0.5)
    assert found["original"]["mean"] == pytest.approx(1.55)


def test_a_fold_has_the_verdict_of_what_it_folds():
    """Indisc of a retrain is below 1 by chance, on either side of U-MIA's .5; that of the original only above."""
    u_mia = {"original": (0.56, 0.55, 0.57, 0.54, 0.58), "retrain": (0.45, 0.55, 0.5, 0.46, 0.54)}
    rows = controls(
        u_mia=lambda method, seed: u_mia[method][seed],
        indisc=lambda method, seed: 1 - abs(2 * u_mia[method][seed] - 1),
    )
    found = {each["metric"]: each for each in gate(rows)}
    assert found["indisc"]["verdict"] == found["u_mia"]["verdict"] == "trusted"
    assert found["indisc"]["smallest_difference"] == pytest.approx(2 * found["u_mia"]["smallest_difference"])
    assert found["indisc"]["original"]["mean"] == pytest.approx(0.88)


def test_the_first_verdict_is_whether_there_is_anything_to_forget():
    def loss(gap):
        return controls(
            forget_loss=lambda method, seed: (
                0.5 + [0.05, -0.05, 0.01, 0, 0.02][(seed + (method == "original")) % 5] - gap * (method == "original")
            ),
            u_mia=leaky,
        )

    (told, _), (alike, _), (reverse, _) = gate(loss(0.3)), gate(loss(0.01)), gate(loss(-0.3))
    assert told["metric"] == alike["metric"] == "forget_loss"
    assert [each["verdict"] for each in (told, alike, reverse)] == ["trusted", "untrusted", "untrusted"]
    assert "not told apart by their loss on D_F" in alike["reason"]
    assert 0.05 < alike["smallest_difference"] < 0.2


@pytest.mark.parametrize("sizes", [{"forget": 100, "test": 120}, {"forget": 100, "test": 900, "forgotten_test": 120}])
def test_a_true_positive_rate_is_held_to_its_own_null_law(sizes):
    """Of 120 others one may be accepted: 2 / 121 of members are, not 1 / 100."""

    def verdict(retrain):
        rows = controls(
            mia_tpr_at_1_percent_fpr=lambda method, seed: (0.6 if method == "original" else retrain) + seed / 1e5
        )
        return gate([each | {"set_sizes": json.dumps(sizes)} for each in rows])[0]

    assert verdict(2 / 121)["verdict"] == "trusted"
    accused = verdict(0.09)  # an AUC's tolerance on this scale would be .15
    assert accused["verdict"] == "untrusted" and "0.0165" in accused["reason"]


def test_the_gate_holds_a_plugins_metric_to_what_the_folder_says_of_it():
    """Its code is not there: `mubench report` of a folder that was run with it."""
    declared = {"theirs": {"ideal": 0.5, "low": 0.0, "high": 1.0}, "odd": {"ideal": "0.5"}, "odder": None}
    (verdict,) = gate(controls(theirs=leaky, odd=leaky), declared=declared)
    assert (verdict["metric"], verdict["verdict"]) == ("theirs", "trusted")


def scores(**parts):
    """Rows of scores: for each part its values of original and retrain, or these with half the width of an interval."""
    rows = []
    for part, of in parts.items():
        for method, value in zip(("original", "retrain"), of):
            value, half = value if isinstance(value, tuple) else (value, None)
            ends = {} if half is None else {"low": value - half, "high": value + half}
            where = {"metric": "klom", "task": "t", "model": "m", "ratio": 5.0, "sampler": "uniform"}
            rows.append({**where, "part": part, "method": method, "value": value, **ends})
    return {each["metric"]: each for each in gate_groups(rows)}


def test_of_klom_only_d_f_is_held_to_the_controls_and_by_equal_numbers_of_models():
    """Half of the retrains against the other half reads more than all of them: a floor of twice what is left hides a leak."""
    found = scores(forget_mean=(4.0, 2.6), forget_excess_mean=(2.4, 0.1), retain_mean=(1.0, 2.6))
    assert {name: each["verdict"] for name, each in found.items()} == {
        "klom forget_mean": "trusted",
        "klom forget_excess_mean": "trusted",
    }
    assert scores(forget_mean=(4.0, 2.6))["klom forget_mean"]["verdict"] == "untrusted"  # too few for the other
    alike = scores(forget_mean=(1.6, 2.6), forget_excess_mean=(0.1, -0.05))
    assert {each["verdict"] for each in alike.values()} == {"untrusted"}


def test_a_score_is_not_trusted_within_its_interval():
    def verdict(half):
        return scores(forget_excess_mean=((2.0, half), (0.1, 0.5)))["klom forget_excess_mean"]

    assert verdict(1.0)["verdict"] == "trusted"
    assert verdict(2.5)["verdict"] == "untrusted" and "intervals" in verdict(2.5)["reason"]
