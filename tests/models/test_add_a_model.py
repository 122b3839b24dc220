"""docs/add-a-model.md: its file is a model that conforms and runs, and no other file is needed."""

from mubench_ray.engine.plan import make_plan
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial
from tests.conformance.conftest import apart  # noqa: F401 - a fixture
from tests.pages import Page, conforms


def test_the_page_s_model_is_short_conforms_and_runs_in_its_suite(repository, tmp_path, apart):  # noqa: F811
    page = Page(repository / "docs" / "add-a-model.md", tmp_path)
    assert len(page.plugin.read_text().splitlines()) < 50
    page.load()
    assert conforms("models", "mixer-small") == page.printed[0]  # what the page prints is what the command prints
    assert conforms("models", "mixer-wide") == page.printed[0]
    plan = make_plan(make_suite(page.suite))
    chosen = [trial for trial in plan.trials.values() if trial.method == "ft" and trial.seed == 42]
    assert {trial.model for trial in chosen} == {"mixer-small", "mixer-wide"}
    row = run_trial(next(t for t in chosen if t.model == "mixer-small"), ArtifactStore(tmp_path / "artifacts")).row
    assert (row["status"], row["model"], row["error"]) == ("ok", "mixer-small", None)
    assert row["test_accuracy"] > 0.3 and 0 < row["flos"] <= row["retrain_flos"]  # it learns, and its cost is counted
