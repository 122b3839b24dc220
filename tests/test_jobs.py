"""The suites that users submit stay valid: every name known, every cell planned or left out with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from mubench_ray.engine.plan import make_plan
from mubench_ray.suite import load_suite

JOBS = sorted((Path(__file__).parent.parent / "jobs").glob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=[path.stem for path in JOBS])
def test_it_plans(path):
    plan = make_plan(load_suite(path))
    assert plan.trials and plan.suite.name == path.stem
    assert all(part.reason for part in plan.left_out)


def test_mubench_is_the_papers_grid():
    plan = make_plan(load_suite(Path(JOBS[0]).parent / "mubench.yaml"))
    models = {(trial.task, trial.model) for trial in plan.trials.values()}
    # 7 methods of which two take no learning rate, 10 ratios, 5 seeds, 4 rates
    assert len(plan.trials) == len(models) * 10 * 5 * (2 + 5 * 4) - sum(part.trials for part in plan.left_out)
