"""docs/add-a-metric.md: its file is a metric and a group metric that conform, that a trial has in its row and a finished folder is scored with."""

import math

import numpy as np
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.metrics import METRICS, compute_group
from mubench_ray.trial import ForgetSet, Training, Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial
from tests.conformance.conftest import apart  # noqa: F401 - a fixture
from tests.pages import Page, conforms


def test_the_page_s_metrics_are_short_and_conform(repository, tmp_path, apart):  # noqa: F811
    page = Page(repository / "docs" / "add-a-metric.md", tmp_path)
    assert len(page.plugin.read_text().splitlines()) < 25
    page.load()
    assert [conforms("metrics", name) for name in ("forget_certainty", "forget_spread")] == page.printed
    for name in ("forget_certainty", "forget_spread"):
        checked = CliRunner().invoke(app, ["check", name, "--plugin", str(page.plugin)])
        assert checked.exit_code == 0 and "FAIL" not in checked.output
    listed = CliRunner().invoke(app, ["list", "metrics", "forget_*", "--plugin", str(page.plugin)]).output
    assert "forget_certainty" in listed and [
        line.split()[1] for line in listed.splitlines() if "forget_spread" in line
    ] == ["group"]


def test_a_trial_has_it_in_its_row(repository, tmp_path, apart):  # noqa: F811
    page = Page(repository / "docs" / "add-a-metric.md", tmp_path)
    page.load()
    assert "forget_certainty" in METRICS
    trial = Trial(task="digits", subset=200, model="cnn-small", method="original", forget=ForgetSet(ratio=10), seed=1, lr=None, training_seed=1,
                  training=Training(epochs=1))  # fmt: skip
    outcome = run_trial(trial, ArtifactStore(tmp_path / "artifacts"))
    examples = outcome.examples.to_pandas()
    losses = examples[examples.split == "forget"].loss
    assert outcome.row["status"] == "ok"
    assert math.isclose(outcome.row["forget_certainty"], np.exp(-losses).mean(), rel_tol=1e-5)


def test_the_group_s_number_is_what_it_says(repository, tmp_path, apart):  # noqa: F811
    Page(repository / "docs" / "add-a-metric.md", tmp_path).load()
    sure, halves = [np.inf, 0.0, np.nan], [0.0, 0.0, 0.0]
    observed = {"forget_confidence": np.array([sure, halves]), "trial_fold": np.array([1, 2])}
    values, reason = compute_group("forget_spread", observed)
    assert reason is None and values == {
        "spread": 0.125
    }  # |1 - .5| / 2 of the first, none of the second, the third was seen once
