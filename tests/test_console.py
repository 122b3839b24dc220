import re
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.errors import harmless
from mubench_ray.results.store import load_results
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


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("tasks", ["digits", "fashion_mnist"]),
        ("models", ["cnn-small", "resnet18", "vit-tiny"]),
        ("methods", ["original", "retrain", "ft", "neggrad", "neggrad_plus", "rand_label", "bad_t", "scrub", "salun"]),
        ("metrics", ["test_accuracy", "u_mia", "indisc", "retention_deviation"]),
        ("samplers", ["uniform", "class", "from_file", "hardest", "memorised"]),
    ],
)
def test_list_names_everything(kind, names):
    lines = {line.split()[0] for line in run("list", kind).splitlines() if line.strip()}
    assert set(names) <= lines


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
    folder, failed = theirs
    if terminal:  # our own colours are escape sequences then, theirs are not
        from rich.console import ColorSystem

        from mubench_ray.console import console

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
