"""Suites small enough to run in a test, on real data."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Ray keeps the address of the newest local cluster in this folder: two workers must not find each other's.
    os.environ["RAY_TMPDIR"] = f"{os.environ.get('RAY_TMPDIR', tempfile.gettempdir())}/{worker}"
    os.makedirs(os.environ["RAY_TMPDIR"], exist_ok=True)

#: Columns that say when, where and how fast, and so differ from run to run.
CIRCUMSTANCES = {
    "seconds", "retrain_seconds", "retrain_time_efficiency", "started_at", "finished_at", "wall_seconds", "provenance", "concurrency", "workers",
    "examples_per_second", "peak_memory",
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> dict:
    """A suite of 14 trials that takes seconds: 300 digits, two epochs of training."""
    return {
        "name": "tiny",
        "tasks": {"name": "digits", "subset": 300},
        "models": "cnn-small",
        "methods": [
            "original",
            "retrain",
            {"name": "ft", "epochs": 1},
            "neggrad",
            {"name": "scrub", "epochs": 1, "msteps": 1},
            "salun",
            "bad_t",
        ],
        "ratios": [5, 10],
        "seeds": 42,
        "lrs": 5e-4,
        "training": {"epochs": 3},
    }


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return Path(__file__).parent.parent


#: What our processes import early, each from its own installed package.
IMPORTED = (
    "torch", "mlflow", "numpy", "ray", "yaml", "psutil", "pyarrow", "uvicorn", "fastapi", "flask", "sqlalchemy", "pandas",
)  # fmt: skip


@pytest.fixture
def planted(tmp_path) -> Path:
    """A folder of somebody else's, with modules that leave a line in ``ran`` beside it where they are imported."""
    folder = tmp_path / "planted"
    folder.mkdir()
    for name in IMPORTED:
        line = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + chr(10))"
        (folder / f"{name}.py").write_text(f"{line}\nraise SystemExit({name!r})\n")
    return folder


def outcome_columns(table) -> list[dict]:
    """Rows by trial id, without what may differ between two runs of the same trial."""
    names = [name for name in table.column_names if name not in CIRCUMSTANCES]
    return table.select(names).sort_by("trial_id").to_pylist()
