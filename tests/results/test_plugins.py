"""Somebody else's results folder: nothing that its suite names is ever run, unless it is named on the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from mubench_ray.results.plugins import plugins_of
from tests.engine.processes import finish

PLUGIN = '''
from pathlib import Path
from mubench_ray.methods import Method, method
from mubench_ray.metrics import metric

Path(__file__).with_name("loaded").touch()

@method("theirs", title="Theirs", cites="a test")
class Theirs(Method):
    """Changes nothing."""
    def phases(self, ctx):
        return []

@metric("their_metric", direction="higher", low=0, high=1, cites="a test")
def their_metric(test_accuracy):
    """D_Test."""
    return test_accuracy
'''
#: Runs the trials of a suite without Ray and writes the folder as `mubench run` does.
RUN = """
import json, sys, yaml
from pathlib import Path
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.engine.plan import make_plan
from mubench_ray.trials.run_trial import metric_names, run_trial
from mubench_ray.registry import load_plugin
from mubench_ray.results.store import Store
from mubench_ray.suite import load_suite

suite, out = load_suite(sys.argv[1]), Path(sys.argv[2])
plan, store = make_plan(suite), Store(out)
store.create({"suite": suite.name, "trials": len(plan.trials)})
store.write_text("suite.json", suite.model_dump_json())
store.write_text("plan.json", json.dumps({"trials": sorted(plan.trials)}))
for trial in plan.trials.values():
    store.write(run_trial(trial, ArtifactStore(out / "artifacts")), metric_names())
"""


@pytest.fixture(scope="module")
def theirs(tiny, tmp_path_factory):
    """A results folder with a plugin's method in it, and the plugin; nobody has loaded it since."""
    folder = tmp_path_factory.mktemp("theirs")
    plugin = folder / "their plugin.py"
    plugin.write_text(PLUGIN)
    suite = folder / "suite.yaml"
    content = {**tiny, "methods": ["original", "retrain", "theirs"], "ratios": 5, "training": {"epochs": 1}}
    suite.write_text(yaml.safe_dump({**content, "plugins": [str(plugin)]}))
    subprocess.run([sys.executable, "-c", RUN, str(suite), str(folder / "out")], check=True, timeout=300)
    (folder / "loaded").unlink()
    return folder / "out", plugin


def id_of(out, method):
    from mubench_ray.results.observations import load_results

    return next(row["trial_id"] for row in load_results(out).to_pylist() if row["method"] == method)


def test_no_command_loads_what_a_folder_names(theirs, tmp_path):
    out, plugin = theirs
    assert plugins_of(out) == [str(plugin)]
    ours = id_of(out, "original")
    assert "The row stands." in finish("rerun", out, ours)
    for command in ("status", "report"):
        assert "Traceback" not in finish(command, out)
    finish("logs", out, ours)
    finish("score", out, "--metric", "u_mia")
    finish("leaderboard", "pack", out)
    finish("leaderboard", "merge", out, "--out", tmp_path / "board")
    finish("rerun", tmp_path / "board", ours)
    assert not plugin.with_name("loaded").exists()


def test_the_error_says_which_and_how(theirs):
    out, plugin = theirs
    again, scored = ("rerun", out, id_of(out, "theirs")), ("score", out, "--metric", "their_metric")
    for command, kind in ((again, "method 'theirs'"), (scored, "metric 'their_metric'")):
        output = finish(*command, expect=1)
        assert f"Unknown {kind}" in output and f"--plugin '{plugin}'" in output and "Traceback" not in output
    assert not plugin.with_name("loaded").exists()


def test_a_plugin_that_is_named_is_loaded(theirs):
    out, plugin = theirs
    assert "The row stands." in finish("rerun", out, id_of(out, "theirs"), "--plugin", plugin)
    finish("score", out, "--metric", "their_metric", "--plugin", plugin)
    assert (out / "scores" / "their_metric.parquet").is_file()
    plugin.with_name("loaded").unlink()


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"plugins": 3}', '{"plugins": [3, null]}', "\xff"])
def test_a_suite_that_cannot_be_read_names_none(tmp_path, content):
    (tmp_path / "suite.json").write_bytes(content.encode("latin-1"))
    assert plugins_of(tmp_path) == [] == plugins_of(tmp_path / "nowhere")


def test_a_suite_names_strings(tmp_path):
    (tmp_path / "suite.json").write_text(json.dumps({"plugins": ["a.py", 3, "b.py"]}))
    assert plugins_of(tmp_path) == ["a.py", "b.py"]
