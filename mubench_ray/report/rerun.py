"""The commands that the page shows, in the one place where they can be changed."""

from __future__ import annotations

import shlex
from pathlib import Path


def rerun_command(root: str | Path, trial_id: str) -> str:
    """What to type to run one trial of a results folder again."""
    return f"mubench rerun {shlex.quote(str(root))} {shlex.quote(trial_id)}"


def ui_command(root: str | Path) -> str:
    """What to type to open the MLflow runs of a results folder in a browser."""
    return f"mubench ui {shlex.quote(str(root))}"
