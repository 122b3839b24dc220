"""A network unlearned elsewhere is looked at as any f_U is, costs nothing that is known, and stands apart."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from mubench_ray.engine.external import evaluate
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.metrics.base import timed
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task, split_of
from mubench_ray.trials.run_trial import metric_names, observe_again, run_trial

SUITE = {
    "name": "own", "tasks": {"name": "digits", "subset": 200}, "models": "cnn-small", "methods": ["original", "retrain"],
    "ratios": 5, "seeds": 42, "lrs": 1e-3, "training": {"epochs": 2},
}  # fmt: skip
#: Metrics of what a trial cost.
COSTS = ("retrain_time_efficiency", "flos_share", "flos", "seconds")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The suite, its results folder, the rows of both controls as any run makes them, and the weights of both as files."""
    folder = tmp_path_factory.mktemp("external")
    suite = make_suite(SUITE)
    plan, store = make_plan(suite), ArtifactStore(folder / "results" / "artifacts")
    rows = {trial.method: run_trial(trial, store).row for trial in plan.trials.values()}
    trial = next(iter(plan.trials.values()))
    files = {}
    for method, recipe in (("original", trial.original), ("retrain", trial.retrain)):
        files[method] = folder / f"{method}.pth"
        torch.save({"model": load_file(store.load(recipe).folder / "weights.safetensors")}, files[method])
    numbers = load_task("digits", 200, None)[1].train.source_index[split_of(trial, trial.forget, None).forget]
    (folder / "forget.txt").write_text("\n".join(map(str, numbers.flip(0).tolist())))
    return suite, folder, rows, files


@pytest.mark.parametrize("method", ["original", "retrain"])
def test_f_o_and_f_r_from_files_have_the_numbers_of_the_controls(method, made):
    """The same networks on the way of any trial, and on this one."""
    suite, folder, rows, files = made
    row = evaluate(suite, files[method], folder / "forget.txt", folder / "results")[0].row
    compared = [
        name for name in metric_names() if name not in COSTS and not timed(name) and rows[method].get(name) is not None
    ]
    assert {"forget_accuracy", "test_loss", "retain_accuracy", "validation_loss"} & set(compared) and len(compared) > 10
    assert {name: row[name] for name in compared} == pytest.approx({name: rows[method][name] for name in compared})
    assert all(row.get(name) is None for name in (*COSTS, "retrain_seconds"))
    assert (row["method"], row["forget_sha256"], row["ratio"]) == ("external", rows[method]["forget_sha256"], 5)


def test_it_is_known_by_weights_and_list_and_kept_for_later(made):
    suite, folder, _, files = made
    (folder / "same").mkdir(exist_ok=True)
    copied = folder / "same" / "other_name.pth"
    copied.write_bytes(files["retrain"].read_bytes())
    ids = [
        evaluate(suite, path, folder / "forget.txt", folder / "results")[0].row["trial_id"]
        for path in (files["retrain"], copied, files["original"])
    ]
    assert ids[0] == ids[1] != ids[2]
    store = Store(folder / "results")
    row = store.row(ids[0])
    from mubench_ray.trial import Trial
    from mubench_ray.trials.observing import Wanted

    trial = Trial.model_validate_json(row["trial"])
    [record] = observe_again(
        trial, [Wanted.now("relearn_benign", {"steps": 2})], row, ArtifactStore(folder / "results" / "artifacts")
    )
    assert (record["status"], record["error"]) == ("ok", None)
    plan = json.loads((folder / "results" / "plan.json").read_text())
    assert set(ids) <= set(plan["trials"])


def test_what_cannot_be_a_row_is_refused_and_nothing_is_written(made, tmp_path):
    suite, folder, _, files = made
    wrong = tmp_path / "wrong.pth"
    torch.save({"classifier.weight": torch.zeros(3, 4)}, wrong)
    with pytest.raises(MubenchError, match=r"wrong.pth: .*is no network of model cnn-small on digits: it lacks "):
        evaluate(suite, wrong, folder / "forget.txt", tmp_path / "out", folder / "results" / "artifacts")
    assert not (tmp_path / "out" / "plan.json").exists()
    whole = tmp_path / "whole.txt"
    whole.write_text("\n".join(map(str, load_task("digits", 200, None)[1].train.source_index.tolist())))
    with pytest.raises(MubenchError, match="names 199 of the 199 training examples of digits"):
        evaluate(suite, files["original"], whole, tmp_path / "out")
    with pytest.raises(MubenchError, match="trains no original with seed 7, but with 42"):
        evaluate(suite, files["original"], folder / "forget.txt", tmp_path / "out", training_seed=7)
    several = make_suite(SUITE | {"models": ["cnn-small", "resnet18"]})
    with pytest.raises(
        MubenchError,
        match="2 of its combinations fit; choose one by --task and --network: digits x cnn-small; digits x resnet18",
    ):
        evaluate(several, files["original"], folder / "forget.txt", tmp_path / "out")
    with pytest.raises(SuiteError, match="method external is a network from elsewhere"):
        make_suite(SUITE | {"methods": ["external"]})
