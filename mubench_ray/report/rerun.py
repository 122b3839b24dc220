"""The one command that runs a row again, in the one place where it can be changed."""

from __future__ import annotations

import shlex
from pathlib import Path


def rerun_command(root: str | Path, trial_id: str) -> str:
    """What to type to run one trial of a results folder again."""
    return f"mubench rerun {shlex.quote(str(root))} {shlex.quote(trial_id)}"
