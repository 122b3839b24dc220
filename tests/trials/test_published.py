"""A checkpoint that is the original as it is: nothing is trained first, nothing is retrained, the task declares the budget."""

from __future__ import annotations

import json

import pytest
import torch

from mubench_ray.engine.estimate import plan_flos
from mubench_ray.engine.job import Job
from mubench_ray.engine.plan import make_plan, split_name
from mubench_ray.engine.worker import Worker
from mubench_ray.errors import SuiteError
from mubench_ray.metrics.base import METRICS, reads
from mubench_ray.models import get_model
from mubench_ray.models.llama import Llama
from mubench_ray.report import write_report
from mubench_ray.results.score import score
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.run_trial import metric_names, run_trial
from mubench_ray.trials.unlearning import prepare
from tests.tasks.layouts import write_wiki_bio


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with biographies, one with a small language model, and a suite over both."""
    folder = tmp_path_factory.mktemp("published")
    patch = pytest.MonkeyPatch()
    patch.setenv("MUBENCH_CACHE", str(folder / "cache"))
    load_task.cache_clear()
    write_wiki_bio(folder / "data")
    task = TASKS.get("wiki_bio")(folder / "data")
    task.load()
    model = Llama(16, 32, 1, 2, vocabulary=200)
    torch.manual_seed(3)
    model.build(task).save_pretrained(folder / "checkpoint")
    model.reader(task).tokenizer(task.texts).save_pretrained(folder / "checkpoint")
    suite = {
        "name": "published",
        "tasks": {"name": "wiki_bio", "subset": 20},
        "models": {"name": "llama-tiny", "pretrained": str(folder / "checkpoint")},
        "methods": ["original", "neggrad", "ft"],
        "ratios": 10,
        "seeds": [42, 87],
        "lrs": 1e-4,
        "unlearning": {"batch_size": 4},
        "data_dir": str(folder / "data"),
    }
    yield folder, suite
    load_task.cache_clear()
    patch.undo()


def test_the_plan_has_one_original_and_no_retrain(published):
    _, suite = published
    plan = make_plan(make_suite({**suite, "methods": [*suite["methods"], "retrain"]}))
    assert len(plan.originals) == 1 and plan.retrains == [] and plan.originals[0].training is None
    assert len(plan.trials) == 6 and all(plan.needs(t) == (plan.originals[0].id,) for t in plan.trials.values())
    assert [part.what for part in plan.left_out] == ["wiki_bio x llama-tiny x retrain"]
    assert "without D_F" in plan.left_out[0].reason and plan_flos(plan) > 0
    with pytest.raises(SuiteError, match=r"budget\.seconds = 0\.5 is a share of the retrain's seconds"):
        make_plan(make_suite({**suite, "budget": {"seconds": 0.5}}))


def test_without_a_checkpoint_a_model_is_trained_and_retrained(published):
    _, suite = published
    plan = make_plan(make_suite({**suite, "models": "llama-tiny"}))
    assert len(plan.originals) == len(plan.retrains) == 2
    assert all(trial.budget_epochs is None for trial in plan.trials.values())


def test_rows_keep_to_the_declared_budget_and_invent_no_retrain(published, tmp_path):
    folder, content = published
    suite = make_suite({**content, "seeds": 42})
    plan = make_plan(suite)
    artifacts, store = ArtifactStore(tmp_path / "artifacts"), Store(tmp_path / "results")
    store.create({"suite": "published"})
    original = get_artifact(plan.originals[0], artifacts, suite.data_dir)
    assert original.flos == 0 and original.seconds == 0
    task, _ = load_task("wiki_bio", 20, suite.data_dir)
    model = get_model("llama-tiny", str(folder / "checkpoint"))
    loaded, given = original.load_into(model.build(task)).state_dict(), model.initial(task).state_dict()
    assert all(torch.equal(loaded[name], given[name]) for name in given)

    for trial in plan.trials.values():
        outcome = run_trial(trial, artifacts, suite.data_dir)
        row = outcome.row
        assert row["status"] in ("ok", "truncated"), row["error"]
        prepared = prepare(trial, artifacts, suite.data_dir)
        cap = trial.budget_epochs * row["retain_size"] * original.flos_per_sample
        assert prepared.ctx.meter.cap_flos == pytest.approx(cap) and row["flos"] <= cap
        if trial.method == "ft":  # five epochs asked for, one is paid for
            assert row["status"] == "truncated" and row["flos"] > 0.7 * cap
        compared = [name for name in metric_names() if any(need.startswith("retrain_") for need in reads(name))]
        assert len(compared) > 5 and all(row[name] is None for name in [*compared, "retrain_flos", "retrain_seconds"])
        assert row["forget_loss"] > 0 and row["test_accuracy"] is not None
        assert all(point["retrain_share"] is None for point in outcome.curve) and len(outcome.curve) >= 1
        store.write(outcome, metric_names())
    assert score(store.root, "retention_deviation")["value"].null_count == len(plan.trials)
    described = {
        name: {"direction": metric.direction, "low": 0, "high": None, "cites": "", "summary": ""}
        for name, metric in METRICS
    }
    store.write_text("metrics.json", json.dumps(described))
    page = write_report(store.root)
    assert page.is_file() and page.stat().st_size > 10_000


def test_the_forget_sets_manifest_is_written_without_a_retrain(published, tmp_path):
    _, content = published
    plan = make_plan(make_suite({**content, "methods": "original", "seeds": 42}))
    trial = next(iter(plan.trials.values()))
    Store(tmp_path / "results").create({"suite": "published"})
    worker = Worker(
        continued=frozenset(),
        out=str(tmp_path / "results"),
        artifacts=str(tmp_path / "artifacts"),
        data_dir=content["data_dir"],
        plugins=(),
        device="cpu",
        concurrency=1,
        threads=1,
    )
    assert worker.run(Job("trial", trial))["status"] == "ok"
    manifest = json.loads((tmp_path / "results" / "splits" / f"{split_name(trial)}.json").read_text())
    assert manifest["forget_size"] == 2 and manifest["task"] == "wiki_bio"
