"""docs/add-a-task.md: its file is a task that conforms and runs, and no other file is needed."""

import pytest
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.conformance import check
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import DataError
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.run_trial import run_trial
from tests.conformance.conftest import apart, faults  # noqa: F401 - a fixture
from tests.pages import Page, conforms


def test_the_page_s_task_is_short_conforms_and_runs_in_its_suite(repository, tmp_path, apart):  # noqa: F811
    page = Page(repository / "docs" / "add-a-task.md", tmp_path)
    assert len(page.plugin.read_text().splitlines()) < 40
    page.load()
    assert conforms("tasks", "moons") == page.printed[0]  # what the page prints is what the command prints
    plan = make_plan(make_suite(page.suite))
    trial = next(trial for trial in plan.trials.values() if trial.method == "ft")
    row = run_trial(trial, ArtifactStore(tmp_path / "artifacts")).row
    assert (row["status"], row["task"], row["error"]) == ("ok", "moons", None)
    assert row["test_accuracy"] > 0.9  # it can be learnt


def test_the_page_s_warning_holds(repository, tmp_path, apart):  # noqa: F811
    """Float pictures are refused, as the page says, also by a run: it learned from pictures that were all but black."""
    page = Page(repository / "docs" / "add-a-task.md", tmp_path)
    float_pictures = page.plugin.read_text().replace("image.to(torch.uint8)", "(image.clamp(max=255) / 255)")
    page.plugin.write_text(float_pictures)
    page.load()
    wrong = faults(check("moons")["tasks", "moons"])
    assert "give uint8 pixels 0..255" in wrong["inputs lie in their range"]
    load_task.cache_clear()
    with pytest.raises(DataError, match=r"task moons: 'image' of D lies in 0\.\.0\.8.*give uint8 pixels 0\.\.255"):
        load_task("moons", None, None)


def test_the_commands_know_it(repository, tmp_path, apart):  # noqa: F811
    page = Page(repository / "docs" / "add-a-task.md", tmp_path)
    listed = CliRunner().invoke(app, ["list", "tasks", "m*", "--plugin", str(page.plugin)])
    assert "moons" in listed.output and "Crescents, drawn from a seed" in listed.output
    checked = CliRunner().invoke(app, ["check", "moons", "--plugin", str(page.plugin)])
    assert checked.exit_code == 0 and "FAIL" not in checked.output
