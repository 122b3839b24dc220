"""The engine on a real local Ray cluster, in processes of its own: what a user starts and what a user kills."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml

from mubench_ray.console import show_end
from mubench_ray.engine.run import Run, run_suite
from mubench_ray.errors import ResultsError
from mubench_ray.results.locks import exclusive
from mubench_ray.results.observations import load_results
from mubench_ray.results.storage import Place
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
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

#: What ends a process without being a death.
ENDINGS = '''
import os, signal, sys
from pathlib import Path
from mubench_ray.methods import Method, method

@method("exiting", title="Exiting", cites="a test")
class Exiting(Method):
    """Leaves, as a library without its licence does."""
    def phases(self, ctx):
        tried("exiting")
        sys.exit("needs a licence")

@method("interrupting", title="Interrupting", cites="a test")
class Interrupting(Method):
    """Raises what Ctrl-C raises."""
    def phases(self, ctx):
        tried("interrupting")
        raise KeyboardInterrupt("on purpose")

@method("terminated", title="Terminated", cites="a test")
class Terminated(Method):
    """Is asked to end the first time, as by whoever takes a machine back."""
    def phases(self, ctx):
        if tried("terminated") == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(10**6))  # the handler runs
        return []

def tried(name):
    with Path(__file__).with_name(name).open("a") as file:
        file.write("x")
        return file.tell()
'''

#: Python imports it wherever it starts: Ray's workers can then not import safetensors.
WITHOUT_SAFETENSORS = """
import sys
if any("default_worker.py" in part for part in sys.orig_argv):
    sys.modules["safetensors"] = None
"""


def mubench(*arguments, **options):
    """Start the real command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "mubench_ray", *map(str, arguments)], env=environment, text=True, **options
    )


def finish(*arguments, expect: int = 0, **options) -> str:
    process = mubench(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
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
    output = finish("run", suite, "--out", out, expect=1)
    rows = {row["method"]: row for row in load_results(out).to_pylist()}
    assert rows["original"]["status"] == "ok"
    assert (rows["raising"]["status"], rows["raising"]["error"]) == ("failed", "RuntimeError: on purpose")
    assert rows["suicidal"]["status"] == "failed"
    reason = rows["suicidal"]["error"]
    assert "its process died 3 times while it ran, the last time so: SYSTEM_ERROR, Worker unexpectedly exits" in reason
    assert "Traceback" not in output
    last = output.splitlines()[-1]
    assert last.startswith("2 of 3 trials failed: ") and last.endswith(
        f"mubench run {suite} --out {out} --retry-failed"
    )
    assert output.count("RuntimeError: on purpose") == last.count("RuntimeError: on purpose (x1)") == 1
    assert (
        output.count("its process died 3 times while it ran")
        == last.count("its process died 3 times while it ran")
        == 1
    )
    assert "on purpose" in finish("logs", out, rows["raising"]["trial_id"])
    # The command of the last line, once its cause is mended.
    plugin.write_text(
        PLUGIN.replace('raise RuntimeError("on purpose")', "return []").replace(
            "os.kill(os.getpid(), signal.SIGKILL)", "return []"
        )
    )
    again = finish(*shlex.split(last.partition("again: mubench ")[2]))
    assert "1 of 3 trials had their row already" in again and "failed:" not in again
    assert [row["status"] for row in load_results(out).to_pylist()] == ["ok"] * 3


def test_leaving_is_no_death(tiny, tmp_path):
    """Told once, with its words; but a process that was asked to end ran nothing that is at fault, and its trial begins anew."""
    plugin, suite, out = tmp_path / "endings.py", tmp_path / "endings.yaml", tmp_path / "out"
    plugin.write_text(ENDINGS)
    methods = ["exiting", "interrupting", "terminated"]
    suite.write_text(
        yaml.safe_dump({**tiny, "methods": methods, "ratios": 5, "plugins": [str(plugin)], "training": {"epochs": 1}})
    )
    finish("run", suite, "--out", out, expect=1)
    rows = {row["method"]: row for row in load_results(out).to_pylist()}
    assert rows["exiting"]["error"] == "SystemExit: needs a licence"
    assert rows["interrupting"]["error"].endswith("KeyboardInterrupt: on purpose")
    assert (rows["terminated"]["status"], rows["terminated"]["error"]) == ("ok", None)
    assert {name: (tmp_path / name).read_text() for name in methods} == dict(zip(methods, ["x", "x", "xx"]))
    assert "sys.exit" in finish("logs", out, rows["exiting"]["trial_id"])


def test_workers_that_cannot_be_built_say_why(tiny, tmp_path):
    """What their exception said, after one try."""
    suite, out = tmp_path / "suite.yaml", tmp_path / "out"
    suite.write_text(yaml.safe_dump({**tiny, "methods": "neggrad", "ratios": 5}))
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_SAFETENSORS)
    finish("run", suite, "--out", out, expect=2, env={"PYTHONPATH": str(tmp_path)})
    [row] = load_results(out).to_pylist()
    assert "safetensors" in row["error"] and "Error: " in row["error"], row["error"]
    assert "died" not in row["error"] and "does not say why" not in row["error"]


def test_where_nothing_has_a_result_the_exit_code_is_2(tiny, tmp_path):
    """Three trials fail for one reason, which is told once."""
    plugin, suite, out = tmp_path / "bad_methods.py", tmp_path / "bad.yaml", tmp_path / "out"
    plugin.write_text(PLUGIN)
    suite.write_text(yaml.safe_dump({**tiny, "methods": "raising", "ratios": 5, "seeds": [1, 2, 3]}))
    output = finish("run", suite, "--out", out, "--plugin", plugin, expect=2)
    assert output.splitlines()[-1] == (
        f"3 of 3 trials failed: RuntimeError: on purpose (x3). `mubench status {out}` says which. "
        f"To try them again: mubench run {suite} --out {out} --plugin {plugin} --retry-failed"
    )


@pytest.mark.parametrize(
    ("failed", "retriable", "end"),
    [
        ({"RuntimeError: no": 2, "the loss became nan": 1}, 2, "To try them again: mubench run s.yaml --retry-failed"),
        ({"RuntimeError: no": 1}, 1, "To try it again: mubench run s.yaml --retry-failed"),
        ({"the loss became nan": 3}, 0, "What diverged would diverge again."),
    ],
)
def test_the_last_line_offers_what_helps(capsys, failed, retriable, end):
    run = Run("out", 9, 9, 0, failed, retriable=retriable)
    show_end(run, "mubench run s.yaml")
    (line,) = capsys.readouterr().out.splitlines()
    reasons = "; ".join(f"{reason} (x{count})" for reason, count in failed.items())
    assert line == f"{sum(failed.values())} of 9 trials failed: {reasons}. `mubench status out` says which. {end}"
    assert run.exit_code == 1


def test_what_was_left_out_is_no_success(tiny, tmp_path):
    """300 examples do not fill 20 shards."""
    suite, out = tmp_path / "partly.yaml", tmp_path / "out"
    methods = ["original", {"name": "sisa", "shards": 20}]
    suite.write_text(yaml.safe_dump({**tiny, "methods": methods, "ratios": 5}))
    output = finish("run", suite, "--out", out, expect=1)
    last = output.splitlines()[-1]
    assert last.startswith(
        "1 trials were left out of the plan: digits x cnn-small x sisa: sisa.shards = 20 of 300 training examples"
    )
    assert [row["status"] for row in load_results(out).to_pylist()] == ["ok"]


def contents(folder) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_whoever_is_refused_has_changed_nothing(tiny, undisturbed, tmp_path):
    """Another suite into a folder that is being run; also where the folder is new, and where the second is to try failed rows again."""
    other = make_suite({**tiny, "name": "other", "methods": "original", "ratios": 10})
    for folder in (undisturbed, tmp_path / "new"):
        with exclusive(Place(folder)):
            before = contents(folder)
            for retry in (False, True):
                with pytest.raises(ResultsError, match="Another mubench is writing"):
                    run_suite(other, folder, retry_failed=retry)
            assert contents(folder) == before and before[Path(".lock")] == str(os.getpid()).encode()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("vl_convert", "pip install vl-convert-python"),
        ("mlflow", "`mubench report {out} --sync-mlflow` makes it."),
        ("report", "No row is lost: `mubench report {out}` makes it."),
    ],
)
def test_what_only_shows_rows_decides_nothing(suite_file, undisturbed, tmp_path, broken, said):
    """Without what draws, without MLflow, and where no report can be written at all."""
    out, shadow = tmp_path / "out", tmp_path / "shadow"
    shutil.copytree(undisturbed, out)
    shutil.rmtree(out / "report")
    (out / "mlflow_runs.parquet").unlink()
    shadow.mkdir()
    if broken == "report":
        (out / "report").write_text("in the way")
    else:
        (shadow / f"{broken}.py").write_text("raise ImportError('on purpose')")
    path = os.pathsep.join([str(shadow), *filter(None, [os.environ.get("PYTHONPATH")])])
    output = finish("run", suite_file, "--out", out, env={"PYTHONPATH": path})
    assert said.format(out=out) in output and "Traceback" not in output
    if broken == "vl_convert":
        assert "(on purpose)" in output and not (out / "report" / "figures").exists()
        page = (out / "report" / "leaderboard.html").read_text()
        assert "SCRUB" in page and "vegaEmbed" in page and len(page) < 500_000, (
            "the page is there without what draws its charts"
        )
        assert (out / "report" / "tables.md").is_file() and "SCRUB" in output
        assert "vl-convert" not in finish("report", out) and list((out / "report" / "figures").glob("*.png"))


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
    ("arguments", "said", "code"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: cannot be read", 2),
        (("status", "nowhere"), "not a results folder", 1),
        (("report", "nowhere"), "not a results folder", 1),
        (("run", "{suite}", "--out", "/proc/nothing"), "cannot be written", 2),
        (
            ("run", "{suite}", "--address", "127.0.0.1:1", "--out", "{tmp}/unreached"),
            "No Ray cluster answers at 127.0.0.1:1",
            2,
        ),
    ],
)
def test_bad_input_is_one_clear_line(arguments, said, code, suite_file, tmp_path):
    output = finish(*(a.format(suite=suite_file, tmp=tmp_path) for a in arguments), expect=code)
    assert said in output and "Traceback" not in output


def test_another_schema_version_is_refused(suite_file, tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    output = finish("run", suite_file, "--out", tmp_path, expect=2)
    assert "schema 99" in output and "--out" in output
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_forget_set_of_a_plugin_that_a_network_decides(tiny, repository, tmp_path):
    """Its network is made once, before all retrains, by whichever worker."""
    page = (repository / "docs" / "add-a-sampler.md").read_text()
    plugin = tmp_path / "my_sampler.py"
    plugin.write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1])
    content = {**tiny, "methods": ["retrain", "ft"], "ratios": [5, 10], "seeds": [1, 2], "sampler": "unsure"}
    path, out = tmp_path / "unsure.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump({**content, "resources": {"concurrency": 2}}))
    finish("run", "--plugin", plugin, path, "--out", out)
    rows = load_results(out).to_pylist()
    assert len(rows) == 8 and {row["status"] for row in rows} <= {"ok", "truncated"}
    assert len({(row["ratio"], row["forget_sha256"]) for row in rows}) == 2
    (network,) = (out / "artifacts").glob("scoring-*")
    retrains = list((out / "artifacts").glob("retrain-*"))
    assert len(retrains) == 4 and all(network.stat().st_mtime < retrain.stat().st_mtime for retrain in retrains)
    manifests = [json.loads(file.read_text()) for file in (out / "splits").glob("*.json")]
    assert {manifest["scored_by"] for manifest in manifests} == {network.name} and len(manifests) == 2
