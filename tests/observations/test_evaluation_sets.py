"""D_V and D_Test where D_F is of classes: what is kept and what is forgotten, in every number of a row, and of what is stored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.forget import ForgetSplit
from mubench_ray.forget.by_class import OfClass
from mubench_ray.forget.uniform import Uniform
from mubench_ray.metrics import compute_all, compute_one
from mubench_ray.metrics.u_mia import attack_accuracy
from mubench_ray.observations.evaluation_sets import held_out
from mubench_ray.results.folder import parted
from mubench_ray.results.score import score
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.tasks import Examples, Splits
from mubench_ray.trial import ForgetSet
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.run_trial import metric_names, run_trial

SUITE = {
    "name": "classes", "tasks": {"name": "digits", "subset": 400}, "models": "cnn-small", "methods": ["original", "retrain"],
    "sampler": {"name": "class", "classes": [3, 5]}, "seeds": 1, "lrs": 1e-3, "training": {"epochs": 6},
}  # fmt: skip


def examples(labels, **groups):
    labels = torch.tensor(labels)
    groups = {name: torch.tensor(values) for name, values in groups.items()}
    return Examples({"labels": labels}, torch.arange(len(labels)), groups=groups)


def positions(sampler, test, forget=(0,), retain=(0,)):
    """Rows of D_Test in its sets, with D_F and D_R at these rows of the same examples."""
    split = ForgetSplit(torch.tensor(forget), torch.tensor(retain), {}, sampler)
    found = held_out(Splits(test, test, test), split)
    return {name: rows.positions.tolist() for name, rows in found.items() if "test" in name}


@pytest.mark.parametrize("part", [False, True])
def test_a_held_out_set_is_parted_by_the_classes_of_d_f(part):
    test = examples([0, 1, 2, 1, 0], superclass=[7, 7, 8, 7, 7])
    assert positions(OfClass(classes=[1], part=part), test) == {"test": [0, 2, 4], "forgotten_test": [1, 3]}
    by_superclass = OfClass(classes=[8], by="superclass", part=part)
    assert positions(by_superclass, test) == {"test": [0, 1, 3, 4], "forgotten_test": [2]}


def test_a_list_of_whole_classes_is_as_good_as_their_names():
    test = examples([0, 1, 2, 1, 0])
    assert positions(Uniform(), test, [1, 2, 3], [0, 4]) == {"test": [0, 4], "forgotten_test": [1, 2, 3]}
    assert positions(Uniform(), test, [1, 2], [0, 3, 4]) == {"test": [0, 1, 2, 3, 4]}, "D_R has one of class 1"


def test_it_stays_whole_where_d_f_is_drawn_from_all_of_d_or_nothing_is_left_on_either_side():
    test = examples([0, 1, 2, 1, 0])
    whole = {"test": [0, 1, 2, 3, 4]}
    assert positions(Uniform(), test) == whole
    assert positions(OfClass(classes=[0, 1, 2], part=True), test) == whole
    assert positions(OfClass(classes=[9]), test) == whole
    assert positions(OfClass(classes=[0], by="superclass"), test) == whole, "the split does not know the grouping"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with the original and the retrain of two whole classes, and its artifacts."""
    root = tmp_path_factory.mktemp("classes")
    plan, artifacts = make_plan(make_suite(SUITE)), ArtifactStore(root / "artifacts")
    store = Store(root / "results")
    store.create({"suite": "classes", "trials": 2})
    outcomes = {trial.method: run_trial(trial, artifacts) for trial in plan.trials.values()}
    for outcome in outcomes.values():
        assert outcome.row["status"] == "ok", outcome.row["error"]
        store.write(outcome, metric_names())
    return store, artifacts, plan, outcomes


def test_who_forgets_nothing_does_not_win_on_d_test_and_the_retrain_is_not_told_apart_by_its_class(ran):
    _, _, _, outcomes = ran
    original, retrain = (outcomes[name].row for name in ("original", "retrain"))
    table = outcomes["retrain"].examples.to_pandas()
    held = load_task("digits", 400, None)[1].test.labels.numpy()
    sizes = table.groupby("split", observed=True).size()
    assert sizes["forgotten_test"] == np.isin(held, [3, 5]).sum() and sizes["test"] == (~np.isin(held, [3, 5])).sum()
    by_set = table.groupby("split", observed=True)
    assert set(by_set.get_group("forgotten_test")["label"]) == {3, 5} == set(by_set.get_group("forget")["label"])
    assert {3, 5}.isdisjoint(by_set.get_group("test")["label"])
    # Over all of D_Test the retrain has lost two classes of ten; over what is kept it has lost nothing.
    assert retrain["forgotten_test_accuracy"] == 0.0 and original["forgotten_test_accuracy"] > 0.5
    assert retrain["test_accuracy"] == pytest.approx(by_set.get_group("test")["correct"].mean())
    assert retrain["test_accuracy"] > original["test_accuracy"] - 0.05
    assert retrain["retention_deviation"] is None and retrain["forget_retention"] is None
    # Against all of D_Test its losses on D_F are a leak; against those of the same classes they are not.
    forget, test, same = (
        by_set.get_group(name)["loss"].to_numpy(float) for name in ("forget", "test", "forgotten_test")
    )
    assert attack_accuracy(forget, np.concatenate([test, same]), 1) > 0.8
    assert retrain["u_mia"] == pytest.approx(attack_accuracy(forget, same, 1)) and abs(retrain["u_mia"] - 0.5) < 0.2
    assert abs(retrain["mia_auc"] - 0.5) < 0.2 and abs(retrain["mia_two_sided_auc"] - 0.5) < 0.2
    assert [f"{name}_accuracy" in outcomes["retrain"].curve[-1] for name in ("test", "forgotten_test")] == [True, False]


def test_what_is_stored_scores_as_the_row_says_and_so_does_a_folder_of_before(ran, tmp_path):
    store, _, _, outcomes = ran
    before = Store(tmp_path / "before")
    before.create({"suite": "classes", "trials": 2})
    for outcome in outcomes.values():
        table = outcome.examples
        split = table["split"].cast(pa.string()).to_pylist()
        names = (
            pa.array([name.removeprefix("forgotten_") for name in split])
            .dictionary_encode()
            .cast(table.schema.field("split").type)
        )
        old = table.set_column(1, "split", names).drop_columns(["modified_entropy", "top_probability"])
        before.write(
            dataclasses.replace(outcome, examples=old.sort_by("index")),
            metric_names(),
        )
    names = (
        "mia_auc",
        "retain_mia_auc",
        "test_accuracy",
        "forgotten_test_accuracy",
        "test_calibration_error",
        "worst_class_drop",
    )
    for name in (*names, "u_mia", "mia_two_sided_auc"):
        for root in (store.root, before.root):
            found = {row["method"]: row["value"] for row in score(root, name).to_pylist()}
            lacking = root == before.root and name == "test_calibration_error"
            for method, outcome in outcomes.items():
                expected = None if lacking else outcome.row[name]
                # Folds are drawn over the examples in their order, which is another one there.
                assert found[method] == pytest.approx(expected, abs=1e-6 if name in names else 0.1), name


def test_a_retrain_that_an_earlier_release_looked_at_is_looked_at_again(ran, tmp_path):
    _, artifacts, plan, outcomes = ran
    trial = next(each for each in plan.trials.values() if each.method == "original")
    retrain = artifacts.load(trial.retrain)
    arrays = {}
    for name, values in retrain.observed.items():
        if not name.endswith(("modified_entropy", "top_probability")) and not name.startswith("forgotten_"):
            more = retrain.observed.get(f"forgotten_{name}")
            arrays[name] = values if more is None else np.concatenate([values, more])

    class Earlier(ArtifactStore):
        def load(self, recipe):
            found = super().load(recipe)
            return dataclasses.replace(found, observed=arrays) if recipe == trial.retrain else found

    again = run_trial(trial, Earlier(artifacts.root)).row
    compared = ("test_retention", "retain_retention", "worst_class_drop", "retain_mia_excess")
    assert {name: again[name] for name in compared} == {name: outcomes["original"].row[name] for name in compared}


def test_stored_labels_part_what_they_can_tell():
    arrays = {
        "forget_label": np.array([3, 4]),
        "retain_label": np.array([0, 1]),
        "test_label": np.array([0, 3, 4, 1]),
        "test_loss": np.arange(4.0),
    }

    def found(sampler="class", **options):
        return parted(arrays, ForgetSet(sampler=sampler, ratio=5, options=options)).get("forgotten_test_loss")

    assert found(classes=[3, 4]).tolist() == [1, 2] == found(classes=[9], by="superclass").tolist()
    assert found("uniform") is None
    arrays["retain_label"] = np.array([0, 1, 3, 4])  # subclasses of what the labels are
    assert found(classes=[9], by="subclass") is None


def losses(**sets):
    return {f"{name}_loss": np.asarray(values, float) for name, values in sets.items()} | {"seed": 0}


def test_every_attack_compares_d_f_with_unseen_examples_of_its_classes():
    rng = np.random.default_rng(0)
    sets = {
        "forget": rng.gamma(9, 1, 300),
        "forgotten_test": rng.gamma(9, 1, 300),
        "forgotten_validation": rng.gamma(9, 1, 300),
    }
    observed = losses(test=rng.gamma(1, 1, 2000), validation=rng.gamma(1, 1, 2000), **sets)
    for name, chance in {"u_mia": 0.5, "u_mia_validation": 0.5, "mia_auc": 0.5, "mia_two_sided_auc": 0.5, "mia_tpr_at_1_percent_fpr": 0.01,
                         "mia_advantage": 0, "mia_advantage_validation": 0, "indisc": 1, "indisc_validation": 1}.items():  # fmt: skip
        assert compute_one(name, observed, {}) == pytest.approx(chance, abs=0.08), name
        others = {name: values for name, values in observed.items() if not name.startswith("forgotten")}
        assert abs(compute_one(name, others, {}) - chance) > 0.3 or "tpr" in name, name


def test_one_loss_that_is_no_number_leaves_the_attacks_on_the_others():
    rng = np.random.default_rng(1)
    forget, test = rng.gamma(1, 1, 200), rng.gamma(2, 1, 500)
    correct = rng.integers(0, 2, 500).astype(float)
    whole = compute_all(
        losses(forget=forget, test=test) | {"test_correct": correct, "test_top_probability": correct / 2}
    )
    hurt = losses(forget=np.append(forget, np.nan), test=np.append(np.nan, test))
    hurt |= {"test_correct": np.append(0, correct), "test_top_probability": np.append(np.nan, correct / 2)}
    found = compute_all(hurt)
    assert found["test_accuracy"] == pytest.approx(whole["test_accuracy"] * 500 / 501), (
        "a prediction that is none is wrong"
    )
    for name in ("u_mia", "mia_auc", "mia_two_sided_auc", "forget_loss", "test_loss", "test_calibration_error"):
        assert found[name] == whole[name] is not None
    assert compute_one("mia_auc", losses(forget=np.full(9, np.nan), test=test), {}) is None


def test_the_row_says_on_how_many_examples_there_is_no_finite_loss(ran, monkeypatch):
    _, artifacts, plan, _ = ran
    trial = next(each for each in plan.trials.values() if each.method == "original")
    task = load_task("digits", 400, None)[0]
    outputs = type(task).outputs
    lost = load_task("digits", 400, None)[1]

    def spoiled(self, network, batch):
        found = outputs(self, network, batch)
        return torch.where(
            (batch["labels"] == 3)[:, None] & (batch["image"].flatten(1).sum(1) % 7 == 0)[:, None], torch.nan, found
        )

    monkeypatch.setattr(type(task), "outputs", spoiled)
    outcome = run_trial(trial, artifacts)
    row, image = outcome.row, lost.train.columns["image"].flatten(1).sum(1)
    count = int(((lost.train.labels == 3) & (image % 7 == 0)).sum())
    assert count > 0 and row["status"] == "ok"
    assert f"f_U has no finite loss on {count} of {row['forget_size']} examples of D_F" in row["marks"]
    assert row["u_mia"] is not None and row["forget_loss"] is not None
    table = outcome.examples.to_pandas().query("split == 'forget'")
    assert table["loss"].isna().sum() == count and not table["correct"][table["loss"].isna()].any()
    monkeypatch.setattr(type(task), "outputs", lambda self, network, batch: outputs(self, network, batch) * torch.nan)
    assert run_trial(trial, artifacts).row["status"] == "diverged"
