"""The engine on a real local Ray cluster, in processes of its own: what a user starts and what a user kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow.dataset as ds
import pytest
import yaml

from mubench_ray.results.store import Store, load_results
from tests.conftest import outcome_columns

PLUGIN = '''
import os, signal
from mubench_ray.methods import Method, Phase, method

@method("suicidal", title="Suicidal", cites="a test")
class Suicidal(Method):
    """Ends its own process, as the kernel does with one that is out of memory."""
    def phases(self, ctx):
        os.kill(os.getpid(), signal.SIGKILL)

@method("raising", title="Raising", cites="a test")
class Raising(Method):
    """Raises."""
    def phases(self, ctx):
        raise RuntimeError("on purpose")
'''


def mubench(*arguments, **options):
    """Start the real command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mubench_ray", *map(str, arguments)], env=environment, text=True, **options
    )


def finish(*arguments, expect: int = 0) -> str:
    process = mubench(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == expect, output
    return output


@pytest.fixture(scope="module")
def suite_file(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return path


@pytest.fixture(scope="module")
def undisturbed(suite_file, tmp_path_factory):
    """A whole run, one trial at a time."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    alone = suite_file.with_name("alone.yaml")
    alone.write_text(yaml.safe_dump({**yaml.safe_load(suite_file.read_text()), "resources": {"concurrency": 1}}))
    output = finish("run", alone, "--out", out)
    assert "Leaderboard" in output
    return out


def test_every_planned_trial_has_its_row_in_every_table(undisturbed):
    planned = json.loads((undisturbed / "plan.json").read_text())["trials"]
    rows = load_results(undisturbed).to_pylist()
    assert sorted(row["trial_id"] for row in rows) == sorted(planned) and len(planned) == 14
    assert {row["status"] for row in rows} <= {"ok", "truncated"}
    for table in ("curves", "examples"):
        assert set(load_results(undisturbed, table)["trial_id"].to_pylist()) == set(planned)
    assert set(load_results(undisturbed)["concurrency"].to_pylist()) == {1}
    assert (undisturbed / "report" / "leaderboard.html").stat().st_size > 10_000


def test_tables_are_readable_with_common_tools(undisturbed):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    folder = undisturbed / "trials"
    assert ds.dataset(folder).count_rows() == 14
    assert len(pandas.read_parquet(folder)) == 14
    assert duckdb.sql(f"select count(*) from '{folder}/*.parquet' where test_accuracy > 0").fetchall() == [(14,)]


def test_split_manifests_lie_beside_the_results(undisturbed):
    for path in (undisturbed / "splits").glob("*.json"):
        manifest = json.loads(path.read_text())
        assert len(manifest["indices"]) == manifest["forget_size"] == len(set(manifest["indices"]))
        rows = [r for r in load_results(undisturbed).to_pylist() if r["ratio"] == manifest["ratio"]]
        assert {row["forget_sha256"] for row in rows} == {manifest["sha256"]}


def test_killed_at_any_moment_the_same_command_completes_it(suite_file, undisturbed, tmp_path):
    """kill -9 of the driver, twice, at random moments: the tables equal those of the undisturbed run, which ran with another concurrency."""
    out = tmp_path / "out"
    rng = random.Random()
    for kill_after in (rng.randint(1, 5), rng.randint(6, 12)):
        process = mubench(
            "run",
            suite_file,
            "--out",
            out,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + 120
        while len(Store(out).finished()) < kill_after and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    settle(out)
    before = {name: (out / "trials" / f"{name}.parquet").stat().st_mtime_ns for name in Store(out).finished()}
    assert before
    output = finish("run", suite_file, "--out", out)
    assert f"{len(before)} of 14 trials had their row already" in output
    after = {name: (out / "trials" / f"{name}.parquet").stat().st_mtime_ns for name in before}
    assert after == before, "what was finished is not run again"
    assert outcome_columns(load_results(out)) == outcome_columns(load_results(undisturbed))
    for table in ("curves", "examples"):
        assert load_results(out, table).num_rows == load_results(undisturbed, table).num_rows
    mlflow_runs = runs_in_mlflow(out)
    assert sorted(mlflow_runs) == sorted(Store(out).finished()), "one MLflow run a trial, none twice"


def settle(out) -> None:
    """Wait until the workers of a killed driver, which Ray ends a moment later, write no more."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 5:
        if (count := len(Store(out).finished())) != seen:
            seen, since = count, time.monotonic()
        time.sleep(0.1)


def runs_in_mlflow(out) -> list[str]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return [run.data.tags["trial_id"] for run in client.search_runs(experiments) if "trial_id" in run.data.tags]


def test_a_complete_run_is_not_repeated(suite_file, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "trials").iterdir()}
    output = finish("run", suite_file, "--out", undisturbed)
    assert "14 of 14 trials had their row already" in output
    assert {path: path.stat().st_mtime_ns for path in (undisturbed / "trials").iterdir()} == before


def test_a_row_can_be_run_again_by_its_one_command(undisturbed):
    row = next(row for row in load_results(undisturbed).to_pylist() if row["method"] == "scrub")
    output = finish("rerun", undisturbed, row["trial_id"])
    assert "The row stands." in output and "DIFFERS" not in output
    assert "0 trials have an id" in finish("rerun", undisturbed, "zzz", expect=1)


def test_a_failure_is_one_row_and_costs_nobody_else(tiny, tmp_path):
    plugin = tmp_path / "bad_methods.py"
    plugin.write_text(PLUGIN)
    suite = tmp_path / "bad.yaml"
    suite.write_text(
        yaml.safe_dump(
            {**tiny, "methods": ["raising", "original", "suicidal"], "ratios": [5], "plugins": [str(plugin)]}
        )
    )
    out = tmp_path / "out"
    output = finish("run", suite, "--out", out)
    rows = {row["method"]: row for row in load_results(out).to_pylist()}
    assert rows["original"]["status"] == "ok"
    assert (rows["raising"]["status"], rows["raising"]["error"]) == ("failed", "RuntimeError: on purpose")
    assert rows["suicidal"]["status"] == "failed" and "died" in rows["suicidal"]["error"]
    assert "on purpose" in output and "Traceback" not in output
    assert "on purpose" in finish("logs", out, rows["raising"]["trial_id"])


def test_an_interrupt_says_how_to_go_on(tiny, tmp_path):
    suite = tmp_path / "long.yaml"
    suite.write_text(yaml.safe_dump({**tiny, "seeds": list(range(12))}))
    out = tmp_path / "out"
    process = mubench(
        "run", suite, "--out", out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    until = time.monotonic() + 120
    while not Store(out).finished() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "To go on: mubench run" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("status", "nowhere"), "not a results folder"),
        (("report", "nowhere"), "not a results folder"),
        (("run", "{suite}", "--out", "/proc/nothing"), "cannot be written"),
        (
            ("run", "{suite}", "--address", "127.0.0.1:1", "--out", "{tmp}/unreached"),
            "No Ray cluster answers at 127.0.0.1:1",
        ),
    ],
)
def test_bad_input_is_one_clear_line(arguments, said, suite_file, tmp_path):
    output = finish(*(a.format(suite=suite_file, tmp=tmp_path) for a in arguments), expect=1)
    assert said in output and "Traceback" not in output


def test_another_schema_version_is_refused(suite_file, tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    output = finish("run", suite_file, "--out", tmp_path, expect=1)
    assert "schema 99" in output and "--out" in output
