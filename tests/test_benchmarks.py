"""Every script under benchmarks/ and jobs/ at its smallest, as its first lines have it run: they are nobody's import, and would rot unseen."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

#: Those that start a cluster take a quarter of a minute each.
SLOW = pytest.mark.slow
#: Arguments and what the output must hold.
SCRIPTS = {
    "benchmarks/claims/gate.py": ("--runs 2", "| 32 | 32 | 4 | "),
    "benchmarks/reproductions.py": ("--itself", "Side of the retrain: 24 of 24 alike; not any."),
    "benchmarks/report_rows.py": ("--rows 50 --seeds 2 --ratios 2 --tasks 1 --models 1", '"write_report_seconds":'),
    "benchmarks/claims/intervals.py": ("--repetitions 3", "forgetting_quality | 16 x 1 | 3, 0.3 | "),
    "benchmarks/engine_overhead.py": ("--trials 2 --processes 1 --epochs 1", "| ratio "),
    "benchmarks/scale.py": ("3 --plain 2", "\n3 | "),
    "benchmarks/side_by_side.py": ("--trials 2 --epochs 1 --ways '2 at a time'", "engine, 2 at a time, 1 thread | "),
    "benchmarks/train_overhead.py": ("--trials 1 --anew 0", "2 workers that stay "),
    "benchmarks/hub_commits.py": ("--list", "| electra-base | google/electra-base-discriminator | unverified |"),
    "benchmarks/claims/letters.py": ("--repetitions 2 --contenders 3 --blocks 5", "| equal normal |"),
    "benchmarks/claims/released.py": ("--seeds 2 --settings 'ga;ng+;scrub'", " have p < .05 before Holm, 0 after."),
    "jobs/run_suite.py": (
        "jobs/quickstart.yaml --dry-run",
        "81 trials, after 3 originals and 9 retrains and 1 scoring network\n",
    ),
}
QUICK = (
    "benchmarks/claims/gate.py",
    "benchmarks/claims/intervals.py",
    "benchmarks/claims/letters.py",
    "benchmarks/hub_commits.py",
    "benchmarks/claims/released.py",
    "benchmarks/report_rows.py",
    "benchmarks/reproductions.py",
    "jobs/run_suite.py",
)


def test_no_script_is_forgotten(repository):
    there = {
        str(path.relative_to(repository))
        for folder in ("benchmarks", "jobs")
        for path in (repository / folder).rglob("*.py")
    }
    assert there == set(SCRIPTS)


@pytest.mark.parametrize("script", [pytest.param(name, marks=() if name in QUICK else SLOW) for name in SCRIPTS])
def test_it_runs(repository, script):
    arguments, said = SCRIPTS[script]
    done = subprocess.run(
        [sys.executable, script, *shlex.split(arguments)],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert said in done.stdout, done.stdout
