"""docs/add-a-method.md: its file is a method of under 40 lines that conforms, its suite is valid."""

import re

import pytest
import yaml

from mubench_ray.conformance import check_method
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.registry import load_plugin
from mubench_ray.suite import make_suite


@pytest.fixture
def page(repository, tmp_path, monkeypatch):
    """The page's first Python block as a plugin, and its suite."""
    text = (repository / "docs" / "add-a-method.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    plugin = tmp_path / "my_method.py"
    plugin.write_text(next(code for kind, code in blocks if kind == "python"))
    METHODS.names()
    monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))
    monkeypatch.setattr(METHODS, "_spellings", dict(METHODS._spellings))
    load_plugin(plugin)
    return text, plugin, yaml.safe_load(next(code for kind, code in blocks if kind == "yaml"))


def test_the_page_s_method_is_short_conforms_and_runs_in_its_suite(page):
    text, plugin, suite = page
    assert len(plugin.read_text().splitlines()) < 40
    findings = check_method("flatten")
    assert [f for f in findings if not f.ok] == []
    shown = [line.removeprefix("ok").strip() for line in text.splitlines() if line.startswith("ok ")]
    assert shown == [f.name for f in findings]  # what the page prints is what the command prints
    plan = make_plan(make_suite(suite))
    assert sum(trial.method == "flatten" for trial in plan.trials.values()) == 2


def test_a_plugin_that_leaves_is_named(tmp_path):
    """As a library without its licence does: it neither ends the command without a word nor a worker."""
    plugin = tmp_path / "leaving_plugin.py"
    plugin.write_text('raise SystemExit("needs a licence")\n')
    with pytest.raises(MubenchError, match=r"leaving_plugin\.py could not be imported: SystemExit: needs a licence"):
        load_plugin(plugin)


def test_a_plugin_that_is_no_python_file_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("a method, later")
    with pytest.raises(MubenchError, match=r"notes\.txt is no Python file"):
        load_plugin(tmp_path / "notes.txt")
