"""Scoring a results folder afterwards: real trials read back, and folders with a planted answer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mubench_ray.errors import MubenchError, ResultsError, UnknownName
from mubench_ray.metrics import GROUP_METRICS, METRICS, Part, compute_all, group_metric, metric
from mubench_ray.metrics.controls import gate_groups
from mubench_ray.results.folder import Folder
from mubench_ray.results.schema import EXAMPLES
from mubench_ray.results.score import SCORES, read_scores, score, stack
from mubench_ray.results.store import Outcome, Store
from mubench_ray.trial import ForgetSet, Training, Trial
from mubench_ray.trials.rows import planned_row

SIZES = {"forget": 40, "retain": 60, "validation": 50, "test": 120}


def make_trial(method, seed, ratio=5.0, forget_seed=42, model="cnn-small", training_seed=None, **hyperparameters):
    return Trial(
        task="digits",
        model=model,
        method=method,
        hyperparameters=hyperparameters,
        forget=ForgetSet(sampler="uniform", ratio=ratio, seed=forget_seed),
        seed=seed,
        training_seed=seed if training_seed is None else training_seed,
        lr=None if method in ("original", "retrain") else 1e-3,
        training=Training(),
    )


def write(store, trial, confidence, status="ok", retain_size=60, curve=(), columns=None, forget_offset=0):
    """Store a finished trial whose per-example confidences are given by split."""
    parts, observed = [], {}
    for split, values in confidence.items():
        loss, correct = np.logaddexp(0, -values), (values > 0).astype(float)
        observed |= {f"{split}_loss": loss, f"{split}_correct": correct, f"{split}_confidence": values}
        named = {
            **{field.name: pa.nulls(len(values)) for field in EXAMPLES},
            "trial_id": [trial.id] * len(values),
            "split": pa.array([split] * len(values)).dictionary_encode(),
            "index": np.arange(len(values)) + (forget_offset if split == "forget" else 0),
            "label": np.zeros(len(values), int),
            "loss": loss,
            "correct": correct,
            "confidence": values,
            "entropy": np.logaddexp(0, -np.abs(values)) + np.abs(values) / (1 + np.exp(np.abs(values))),
        }
        parts.append(
            pa.table({field.name: pa.array(named[field.name]).cast(field.type) for field in EXAMPLES}, schema=EXAMPLES)
        )
    row = planned_row(trial) | {"status": status, "forget_size": 40, "retain_size": retain_size}
    row |= {"flos": 1e9, "seconds": 1.0, "retrain_flos": 4e9, "retrain_seconds": 8.0}
    row |= compute_all(observed | {"seed": trial.seed}) | dict(columns or {})
    points = [
        {"trial_id": trial.id, "flos": share * 4e9, "seconds": share, "retrain_share": share, **point}
        for share, point in curve
    ]
    store.write(Outcome(row, points, pa.concat_tables(parts) if parts else None), METRICS.names())


def confidences(rng, forget=0.0):
    """Every split alike, D_F shifted by ``forget``."""
    return {split: rng.normal(1 + (forget if split == "forget" else 0), 1, size) for split, size in SIZES.items()}


def folder(path, seeds=10, shift_of=None, methods=("original", "retrain", "ft")):
    """A results folder with a planted leak: D_F of each method stands out by ``shift_of``."""
    store = Store(path)
    store.create({"name": "planted"})
    shifts = shift_of or {"original": 6.0, "retrain": 0.0, "ft": 0.0}
    for seed in range(seeds):
        for number, method in enumerate(methods):
            write(store, make_trial(method, seed), confidences(np.random.default_rng([seed, number]), shifts[method]))
    return store


def by_method(table, part="value"):
    return {row["method"]: row["value"] for row in table.to_pylist() if row["part"] == part}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("planted")).root


def test_a_stored_metric_is_the_same_when_it_is_computed_again(planted):
    stored = {row["trial_id"]: row for row in Store(planted).read("trials").to_pylist()}
    for name in (
        "u_mia",
        "indisc",
        "test_accuracy",
        "forget_loss",
        "mia_auc",
        "retrain_time_efficiency",
        "svc_mia_confidence",
    ):
        again = score(planted, name).to_pylist()
        assert len(again) == len(stored)
        for row in again:
            expected = 8.0 if name == "retrain_time_efficiency" else stored[row["trial_id"]][name]
            assert row["value"] == pytest.approx(expected, rel=1e-5), name
            assert row["reason"] is None and row["part"] == "value" and row["metric"] == name


def test_a_metric_added_afterwards_needs_no_training(planted, monkeypatch):
    METRICS.names()
    for table in ("_things", "_spellings"):
        monkeypatch.setattr(METRICS, table, dict(getattr(METRICS, table)))

    @metric("worst_forget_loss", direction="neither", cites="a test")
    def worst_forget_loss(forget_loss: np.ndarray, retrain_forget_loss: np.ndarray) -> float:
        """Largest loss on D_F above the retrain's largest."""
        return forget_loss.max() - retrain_forget_loss.max()

    before = sorted(path.name for path in (planted / "examples").iterdir())
    values = [row["value"] for row in score(planted, "Worst-Forget-Loss").to_pylist() if row["method"] == "retrain"]
    assert values == [0.0] * 10
    assert sorted(path.name for path in (planted / "examples").iterdir()) == before
    assert (planted / "scores" / "worst_forget_loss.parquet").is_file()


def test_a_metric_that_raises_is_a_reason(planted, monkeypatch):
    """It was a traceback, and no table."""
    for registry in (METRICS, GROUP_METRICS):
        registry.names()
        for table in ("_things", "_spellings"):
            monkeypatch.setattr(registry, table, dict(getattr(registry, table)))

    @metric("raising", direction="neither", cites="a test")
    def raising(forget_loss: np.ndarray) -> float:
        """Raises."""
        raise KeyError("no such thing")

    @group_metric("raising_group", over=("seed",), parts={"only": Part("lower")}, cites="a test")
    def raising_group(forget_confidence: np.ndarray) -> dict[str, float]:
        """Raises."""
        raise KeyError("no such thing")

    for name in ("raising", "raising_group"):
        rows = score(planted, name).to_pylist()
        assert rows and {(row["value"], row["reason"]) for row in rows} == {(None, "KeyError: 'no such thing'")}


def test_the_table_is_written_whole_under_its_canonical_name(planted):
    table = score(planted, "U-LiRA")
    assert pq.read_table(planted / "scores" / "u_lira.parquet").equals(table)
    assert table.schema.equals(SCORES)
    assert not [path for path in (planted / "scores").iterdir() if path.name.startswith(".")]


def test_u_lira_finds_the_planted_leak_and_only_that(planted):
    areas = by_method(score(planted, "u_lira"), "auc")
    assert areas["original"] > 0.99
    assert areas["ft"] == pytest.approx(0.5, abs=0.06)
    assert areas["retrain"] == pytest.approx(
        0.5, abs=0.08
    )  # half of the retrains against the other half: the noise floor
    counts = {row["method"]: (row["trials"], row["oracles"]) for row in score(planted, "u_lira").to_pylist()}
    assert counts == {"original": (10, 10), "ft": (10, 10), "retrain": (5, 5)}


def test_a_group_metric_has_its_interval_and_a_trial_none(planted):
    found = {(row["method"], row["part"]): row for row in score(planted, "u_lira").to_pylist()}
    row = found["ft", "auc"]
    assert 0.3 < row["low"] < row["value"] < row["high"] < 0.7 and row["interval"].startswith("10 trainings")
    assert row["low"] < 0.5 < row["high"]
    assert found["original", "auc"]["low"] > 0.9 and found["original", "auc"]["high"] <= 1.0
    [told] = {row["interval"] for row in score(planted, "klom").to_pylist() if row["value"] is not None}
    assert told == "undefined with models left out"  # of 10, which are the fewest that it takes
    assert {(row["low"], row["high"], row["interval"]) for row in score(planted, "u_mia").to_pylist()} == {(None,) * 3}


def test_intervals_may_be_left_out(planted):
    bare = score(planted, "u_lira", with_intervals=False)
    assert bare["low"].null_count == bare["interval"].null_count == len(bare)
    assert bare["value"].equals(score(planted, "u_lira")["value"])


def test_klom_and_forgetting_quality_separate_the_leak_from_its_absence(planted):
    divergence = by_method(score(planted, "klom"), "forget_mean")
    assert divergence["original"] > divergence["ft"] + 1
    assert divergence["retrain"] is None  # five against five: too few, and it says so
    quality = by_method(score(planted, "forgetting_quality"), "quality")
    assert quality["original"] < 0.1 < quality["ft"]
    reasons = {row["reason"] for row in score(planted, "klom").to_pylist() if row["method"] == "retrain"}
    assert reasons == {"needs at least 10 trials, there are 5"}


def test_rows_of_controls_that_are_one_network_count_once(tmp_path):
    store = folder(tmp_path, seeds=4)
    for seed in range(4):  # the same originals and retrains under other unlearning seeds
        for number, method in enumerate(("original", "retrain")):
            again = make_trial(method, seed + 100, training_seed=seed)
            write(
                store, again, confidences(np.random.default_rng([seed, number]), 6.0 if method == "original" else 0.0)
            )
    rows = [row for row in score(tmp_path, "u_lira").to_pylist() if row["part"] == "auc"]
    assert {row["method"]: (row["trials"], row["oracles"]) for row in rows}["original"] == (4, 4)


def test_forget_draws_are_aligned_by_index(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "draws"})
    for seed in range(10):
        for draw, offset in ((42, 0), (7, 40)):
            for number, method in enumerate(("retrain", "ft")):
                rng = np.random.default_rng([seed, draw, number])
                values = confidences(rng, 9.0 if method == "ft" and draw == 7 else 0.0)
                write(store, make_trial(method, seed, forget_seed=draw), values, forget_offset=offset)
    # Half of the examples leak: all of the second draw's, none of the first's.
    found = {row["part"]: row for row in score(tmp_path, "u_lira").to_pylist() if row["method"] == "ft"}
    assert found["tpr_at_1_percent_fpr"]["value"] == pytest.approx(0.5, abs=0.06)
    assert found["auc"]["trials"] == 20 and found["auc"]["oracles"] == 20


def test_every_confidence_stands_in_the_column_of_its_example(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "columns"})
    trials = [make_trial("ft", 1), make_trial("ft", 2, forget_seed=7)]
    values = [confidences(np.random.default_rng(seed)) for seed in (1, 2)]
    write(store, trials[0], values[0])
    write(store, trials[1], values[1], forget_offset=30)  # examples 30..69, the first ten of them in both draws
    opened = Folder(store)
    rows = sorted(opened.finished, key=lambda row: row["seed"])
    ours, oracles = stack(opened, rows[:1], rows[1:], "forget")
    assert ours.shape == oracles.shape == (1, 70)
    assert ours[0, :40] == pytest.approx(values[0]["forget"]) and np.isnan(ours[0, 40:]).all()
    assert oracles[0, 30:] == pytest.approx(values[1]["forget"]) and np.isnan(oracles[0, :30]).all()


def test_scores_say_when_d_r_is_a_sample(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "sampled"})
    write(store, make_trial("ft", 1), confidences(np.random.default_rng(0)), retain_size=60)
    write(store, make_trial("ft", 2), confidences(np.random.default_rng(1)), retain_size=42_500)
    sampled = {row["seed"]: row["sampled"] for row in score(tmp_path, "retain_accuracy").to_pylist()}
    assert sampled == {1: False, 2: True}
    assert not any(row["sampled"] for row in score(tmp_path, "test_accuracy").to_pylist())


def test_failed_trials_and_missing_controls_have_a_row_with_a_reason(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "gaps"})
    write(store, make_trial("ft", 1), confidences(np.random.default_rng(0)))
    write(store, make_trial("ft", 2), {}, status="diverged")
    values = {row["seed"]: row for row in score(tmp_path, "forget_retention").to_pylist()}
    assert values[1]["value"] is None and values[1]["reason"] == "not observed: retrain_forget_correct"
    assert values[2]["value"] is None and values[2]["reason"] == "the trial's status is diverged"
    assert {row["trials"] for row in score(tmp_path, "u_lira").to_pylist()} == {1}  # the diverged one is in no ensemble
    [reason] = {row["reason"] for row in score(tmp_path, "u_lira").to_pylist()}
    assert reason == "needs at least 4 folds, there are 0"
    unstored = score(tmp_path, "zrf").to_pylist()
    assert "forget_log_probs" in next(row["reason"] for row in unstored if row["seed"] == 1)


def test_a_stored_mean_is_no_substitute_for_the_examples(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "no examples"})
    write(store, make_trial("ft", 1), {}, columns={"forget_loss": 0.3, "test_loss": 0.4})
    [row] = score(tmp_path, "mia_auc").to_pylist()
    assert row["value"] is None and row["reason"] == "not observed: forget_loss, test_loss"
    assert score(tmp_path, "forget_loss").to_pylist()[0]["value"] is None


def test_deletion_capacity_ranges_over_ratios_and_takes_its_margin(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "capacity"})
    rng = np.random.default_rng(0)
    for seed in range(3):
        write(store, make_trial("original", seed, ratio=1.0), confidences(rng), columns={"test_loss": 0.5})
        for ratio, loss in ((1.0, 0.51), (5.0, 0.54), (10.0, 0.9)):
            write(store, make_trial("ft", seed, ratio=ratio), confidences(rng), columns={"test_loss": loss})
    found = {row["part"]: row for row in score(tmp_path, "deletion_capacity").to_pylist() if row["method"] == "ft"}
    assert {part: row["value"] for part, row in found.items()} == {"capacity": 5.0, "low": 5.0, "high": 5.0}
    assert (found["capacity"]["low"], found["capacity"]["high"], found["low"]["low"]) == (5.0, 5.0, None)
    assert found["capacity"]["ratio"] is None and found["capacity"]["trials"] == 9
    narrow = score(tmp_path, "deletion_capacity", {"margin": 0.02})
    assert by_method(narrow, "capacity")["ft"] == 1.0


def test_scaling_ranges_over_models(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "scaling"})
    rng = np.random.default_rng(0)
    for model, flos, accuracy in (("cnn-small", 1e9, 0.9), ("resnet18", 1e10, 0.8), ("vit-small", 1e11, 0.7)):
        write(
            store,
            make_trial("ft", 1, model=model),
            confidences(rng),
            columns={"flos": flos, "forget_accuracy": accuracy},
        )
    found = {row["part"]: row for row in score(tmp_path, "scaling").to_pylist()}
    assert found["slope"]["value"] == pytest.approx(-0.1) and found["slope"]["model"] is None


def test_score_at_cost_reads_each_trials_own_curve(tmp_path):
    store = Store(tmp_path)
    store.create({"name": "curves"})
    rng = np.random.default_rng(0)
    for seed, end in ((1, 0.9), (2, 0.7)):
        points = [(0.0, {"test_accuracy": 0.5, "forget_accuracy": 1.0, "retain_accuracy": 1.0})]
        points += [(0.1, {"test_accuracy": end, "forget_accuracy": 0.8, "retain_accuracy": 1.0})]
        write(store, make_trial("ft", seed), confidences(rng), curve=points)
    rows = score(tmp_path, "score_at_cost").to_pylist()
    found = {(row["seed"], row["part"]): row["value"] for row in rows}
    assert found[1, "test_accuracy_at_5_percent"] == pytest.approx(0.9)
    assert found[2, "test_accuracy_at_100_percent"] == pytest.approx(0.7)
    assert all(row["trial_id"] for row in rows) and len(rows) == 36


def test_merged_files_are_read_as_well(planted, tmp_path):
    store = folder(tmp_path / "merged")
    store.compact(at_least=2)
    assert not (store.root / "examples" / f"{make_trial('ft', 0).id}.parquet").exists()
    assert score(store.root, "u_mia").sort_by("trial_id").equals(score(planted, "u_mia").sort_by("trial_id"))


def test_different_hyperparameters_are_different_groups(tmp_path):
    store = folder(tmp_path, seeds=4)
    for seed in range(4):
        write(store, make_trial("ft", seed, epochs=9), confidences(np.random.default_rng(seed), 6.0))
    areas = sorted(
        row["value"] for row in score(tmp_path, "u_lira").to_pylist() if row["method"] == "ft" and row["part"] == "auc"
    )
    assert len(areas) == 2 and areas[0] < 0.7 < 0.95 < areas[1]


def test_bad_requests_are_one_clear_line(planted, tmp_path):
    with pytest.raises(UnknownName, match="u_lira"):
        score(planted, "u_lyra")
    with pytest.raises(ResultsError, match="no manifest"):
        score(tmp_path, "u_mia")
    with pytest.raises(ResultsError, match="no options"):
        score(planted, "u_mia", {"margin": 1})
    with pytest.raises(MubenchError, match="margin"):
        score(planted, "deletion_capacity", {"margni": 1})


def test_an_empty_folder_gives_an_empty_table(tmp_path):
    Store(tmp_path).create({"name": "empty"})
    assert score(tmp_path, "u_mia").num_rows == 0
    assert score(tmp_path, "u_lira").num_rows == 0


def test_the_gate_trusts_an_attack_that_tells_the_original_apart(planted):
    verdicts = {row["metric"]: row for row in gate_groups(score(planted, "u_lira").to_pylist())}
    assert verdicts["u_lira auc"]["verdict"] == verdicts["u_lira accuracy"]["verdict"] == "trusted"
    assert "ideal 0.5" in verdicts["u_lira auc"]["reason"]
    assert (verdicts["u_lira auc"]["task"], verdicts["u_lira auc"]["ratio"]) == ("digits", 5.0)


def test_the_gate_does_not_trust_an_attack_that_is_blind_or_accuses_retrains(tmp_path):
    blind = folder(tmp_path / "blind", shift_of={"original": 0.0, "retrain": 0.0, "ft": 6.0})
    verdicts = {row["metric"]: row for row in gate_groups(score(blind.root, "u_lira").to_pylist())}
    assert verdicts["u_lira auc"]["verdict"] == "untrusted"
    rows = [
        {"metric": "u_lira", "part": "auc", "task": "t", "model": "m", "ratio": 5.0, "method": method, "value": value}
        for method, value in (("original", 0.9), ("retrain", 0.75))
    ]
    (verdict,) = gate_groups(rows)
    assert verdict["verdict"] == "untrusted" and "retrain is told apart" in verdict["reason"]


def test_the_gate_says_why_a_group_metric_cannot_be_checked(tmp_path):
    few = folder(tmp_path / "few", seeds=2)
    verdicts = gate_groups(score(few.root, "u_lira").to_pylist())
    assert {row["verdict"] for row in verdicts} == {"not checkable"}
    assert "needs at least 4 folds" in verdicts[0]["reason"]
    assert gate_groups(score(few.root, "deletion_capacity").to_pylist()) == []  # no ideal value, nothing to gate


def test_scores_are_read_back_and_damage_is_named(tmp_path):
    few = folder(tmp_path, seeds=2)
    assert read_scores(few) == []
    written = score(few.root, "u_lira").to_pylist()
    assert read_scores(few) == written
    (tmp_path / "scores" / "broken.parquet").write_text("no")
    with pytest.raises(ResultsError, match=r"broken\.parquet cannot be read .*remove it"):
        read_scores(few)
