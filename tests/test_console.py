import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mubench_ray.cli import app


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
    ],
)
def test_list_names_everything(kind, names):
    lines = {line.split()[0] for line in run("list", kind).splitlines() if line.strip()}
    assert set(names) <= lines


def test_plan_counts_and_estimates(tiny, tmp_path):
    import yaml

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
