import re
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.errors import MubenchError, harmless
from mubench_ray.kinds import KINDS, registries
from mubench_ray.listing import in_columns, lines
from mubench_ray.methods import METHODS
from mubench_ray.metrics import metric
from mubench_ray.results.observations import load_results
from tests.conformance.conftest import apart  # noqa: F401 - a fixture
from tests.engine.processes import finish
from tests.report.conftest import Folder

#: An error of somebody else's making: no tag of ours, tags of ours, a link, an emoji's name, what clears a screen, renames a window, goes back in the line,
#: turns the line around, and a line that is not ours.
NASTY = "[/foo] [red] [link=http://x]y[/link] :smile: \x1b[2J\x1b]0;mine\x07 \r\x9b2J \u202eend\nLeaderboard: /tmp/mine"
#: As it is shown.
SHOWN = r"[/foo] [red] [link=http://x]y[/link] :smile: \x1b[2J\x1b]0;mine\x07 \r\x9b2J \u202eend"
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def run(*arguments):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    return result.output


def test_list_names_everything_of_a_kind_a_line_each():
    for kind in KINDS:
        names = [name for registry in registries(kind) for name in registry.names()]
        lines = run("list", kind).splitlines() if names else []
        own = [f"{name}:{f.form}" for registry in registries(kind) for name, f in registry.families().items()]
        assert [line.split()[0] for line in lines] == sorted(names) + own  # what opens a user's own stands last
        assert all(line == line.rstrip() for line in lines)
    everything = run("list").splitlines()
    assert {line for line in everything if line.endswith(":")} >= {
        "tasks:",
        "models:",
        "methods:",
        "metrics:",
        "observations:",
    }
    assert {"u_lira", "u_mia", "digits", "salun", "cnn-small"} <= {line.split()[0] for line in everything}


def test_group_metrics_are_listed_and_marked():
    (line,) = run("list", "metrics", "u_lira*").splitlines()
    assert line.split()[:2] == ["u_lira", "group"]
    told = run("list", "metrics", "U-LiRA")
    assert "needs at least: 4 folds" in told and "accuracy (better lower, 0 .. 1)" in told


def test_list_takes_wildcards_and_a_name_of_any_kind():
    listed = [line.split()[0] for line in run("list", "methods", "s*").splitlines()]
    # Other tests may have registered methods of their own.
    assert listed == [name for name in METHODS.names() if name.startswith("s")] and {"salun", "scrub", "ssd"} <= {
        *listed
    }
    assert [line.split()[0] for line in run("list", "models", "CNN-*").splitlines()] == ["cnn-small"]
    assert run("list", "salun").startswith("method: salun\n")
    everywhere = run("list", "*salun*")
    assert [line.split()[0] for line in everywhere.splitlines()] == ["salun"]


def test_lines_are_cut_where_a_terminal_is_narrow_and_nowhere_else():
    for kind in ("tasks", "models", "methods", "metrics", "observations"):
        found = lines([kind])
        assert max(map(len, in_columns(found, 80))) <= 80
        narrow = [line.split()[0] for line in in_columns(found, 80)]
        assert narrow == [line.name for line in found]  # one line each
    assert any("..." in line for line in in_columns(lines(["metrics"]), 80))
    assert not any("..." in line for line in run("list", "metrics").splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("metrics", "u_lirra"), "Unknown metric 'u_lirra'. Did you mean 'u_lira' of the metrics"),
        (("metrics", "salunn"), "Did you mean 'salun' of the methods"),
        (("methods", "u_mia"), "Unknown method 'u_mia': it is one of the metrics (`mubench list metrics u_mia`)."),
        (("cnn-smal",), "Did you mean 'cnn-small' of the models"),
        (("metricz", "u_mia"), "'metricz' is no kind of thing. Did you mean 'metrics'"),
        (("tasks", "z*"), "No name of the tasks fits 'z*'."),
    ],
)
def test_a_name_that_is_unknown_says_the_nearest_of_all_kinds(arguments, told):
    with pytest.raises(MubenchError, match=re.escape(told)):
        run("list", *arguments)


def test_check_takes_things_of_every_kind_and_fails_where_one_does(apart):  # noqa: F811
    assert "ok   gives its parts and no others" in run("check", "u_lira")
    assert "ok   digits: same seed, same weights" in run("check", "cnn-small")

    @metric("leaving", direction="higher", low=0.0, high=1.0, cites="a test")
    def leaving(test_loss):
        """Ends the process, as `quit()` in a script does."""
        sys.exit("needs a licence")

    result = CliRunner().invoke(app, ["check", "leaving"])
    assert result.exit_code == 1 and "FAIL runs: SystemExit: needs a licence" in result.output
    with pytest.raises(MubenchError, match=r"Unknown name 'salunn'\. Did you mean 'salun' of the methods"):
        run("check", "salunn")


def test_plan_counts_and_estimates(tiny, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    output = run("plan", str(path), "--trials")
    assert "14 trials, after 1 originals and 2 retrains" in output
    assert "FLOs" in output
    assert sum("seed 42" in line for line in output.splitlines()) == 14


def test_help_needs_no_heavy_imports():
    """``mubench --help`` must answer at once: neither torch nor ray nor pyarrow is imported for it."""
    code = "import sys, mubench_ray.cli; print([m for m in ('torch', 'ray', 'pyarrow', 'mlflow', 'transformers', 'pydantic') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.fixture
def theirs(tmp_path):
    """A results folder whose rows somebody else wrote, in a place with a strange name; and the id of its failed trial."""
    folder = Folder(tmp_path / "results [/bar] [bold]")
    folder.store.create({"suite": f"suite {NASTY}", "trials": 8, "provenance": {"host": NASTY}})
    folder.controls()
    for seed in range(2):
        folder.add(f"method {NASTY}", seed=seed, forget_accuracy=0.5, test_accuracy=0.5, device=NASTY)
    failed = folder.add(f"broken {NASTY}", status="failed", error=NASTY, device=NASTY)
    (folder.root / "logs").mkdir()
    (folder.root / "logs" / f"{failed}.txt").write_text(f"Traceback: {NASTY}\n")
    return folder.root, failed


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("command", ["status", "report", "logs"])
def test_what_others_wrote_is_shown_and_does_nothing(theirs, command, terminal, monkeypatch):
    from rich.console import ColorSystem

    from mubench_ray.console import console

    folder, failed = theirs
    monkeypatch.setattr(console, "_width", 200)  # as wide whoever imported it first: nothing is wrapped
    if terminal:  # our own colours are escape sequences then, theirs are not
        monkeypatch.setattr(console, "_force_terminal", True)
        monkeypatch.setattr(console, "_color_system", ColorSystem.STANDARD)
    output = run(command, str(folder), *([failed] if command == "logs" else []))
    assert ("\x1b[" in output) == terminal
    uncoloured = re.sub("\x1b\\[[0-9;]*m", "", output)
    assert not STEERS.search(uncoloured), STEERS.findall(uncoloured)
    assert SHOWN in uncoloured
    assert command == "logs" or "\nLeaderboard: /tmp/mine" not in uncoloured, "a name and a reason are one line"


def test_files_of_a_report_are_plain(theirs):
    folder, _ = theirs
    run("report", str(folder))
    for name in ("tables.md", "tables.tex", "leaderboard.html"):
        assert not STEERS.search((folder / "report" / name).read_text()), name
    assert list((folder / "report" / "figures").glob("*.png")), "drawing them ends no process"


@pytest.mark.parametrize("package", ["altair", "jinja2"])
def test_without_what_a_report_needs(theirs, package):
    """One line that names it, no traceback."""
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv = ['mubench', 'report', {str(theirs[0])!r}]; from mubench_ray.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and package in line and f"pip install {package}" in line


def test_a_suite_with_strange_names(tiny, tmp_path):
    place = tmp_path / "suites [/bar]"
    place.mkdir(parents=True)
    (path := place / "tiny.yaml").write_text(yaml.safe_dump({**tiny, "methods": ["original", "[/foo]\x1b[2J"]}))
    output = finish("plan", path, expect=1)
    assert "[/bar]/tiny.yaml" in output and "[/foo]" in output and not STEERS.search(output)


def test_harmless():
    assert harmless("plain, ünï, 日本語, tab\t, end\n") == "plain, ünï, 日本語, tab\t, end\n"
    written = harmless("\x1b[0m\x00\x7f\x85\u2028\u2066\ud800\uffff")
    assert written == r"\x1b[0m\x00\x7f\x85\u2028\u2066\ud800\uffff"


RAISES = f"""
from mubench_ray.methods import Method, method

@method("raising", title="Raising", cites="a test")
class Raising(Method):
    "Fails."
    def phases(self, ctx):
        raise RuntimeError({NASTY!r})
"""


@pytest.mark.slow
def test_a_run_whose_rows_fail_so(tiny, tmp_path):
    (plugin := tmp_path / "raising_method.py").write_text(RAISES)
    path, out = tmp_path / "suite.yaml", tmp_path / "out [/bar]"
    content = {**tiny, "methods": ["original", "raising"], "ratios": 5, "training": {"epochs": 1}}
    path.write_text(yaml.safe_dump({**content, "plugins": [str(plugin)]}))
    command = [sys.executable, "-m", "mubench_ray", "run", str(path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stdout + done.stderr and not STEERS.search(done.stdout + done.stderr)
    assert r"[/foo] [red] [link=http://x]y[/link] :smile: \x1b[2J" in done.stdout
    rows = load_results(out).to_pylist()
    assert {row["method"]: row["status"] for row in rows} == {"original": "ok", "raising": "failed"}
