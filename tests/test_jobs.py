"""The suites that users submit stay valid: every name known, every cell planned or left out with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from mubench_ray.engine.plan import combinations, make_plan
from mubench_ray.suite import load_suite

JOBS = sorted((Path(__file__).parent.parent / "jobs").glob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=[path.stem for path in JOBS])
def test_it_plans(path):
    plan = make_plan(load_suite(path))
    assert plan.trials and plan.suite.name == path.stem
    assert all(part.reason for part in plan.left_out)


def test_deep_unlearn_is_searched_as_its_code_searches():
    """37 epochs on CIFAR, where originals are trained for 182, and 10 elsewhere; batches of 256 but on UTKFace; SGD but for Bad-T."""
    suite = load_suite(JOBS[0].parent / "deep_unlearn.yaml")
    assert (suite.search.trials, suite.search.sweeps, suite.search.sweeps_on) == (100, 3, "own_seed")
    searched = {(c.task.name, c.model.name, c.entry.name): c for c in combinations(suite) if c.ranges}
    assert len(searched) == 9 * 18
    for (task, _, method), combination in searched.items():
        spaces = combination.ranges.spaces
        if "epochs" in spaces:
            assert (spaces["epochs"].low, spaces["epochs"].high) == (1, 37 if task.startswith("cifar") else 10)
            assert spaces["epochs"].kind == ("uniform" if method == "prmq" else "integer")
        assert spaces["batch_size"].choices == ((64, 128) if task == "utkface" else (64, 128, 256))
        takes_steps = method not in ("ff", "iu")
        assert ("weight_decay" in spaces, "lr" in spaces) == (takes_steps, takes_steps)
        assert "optimizer" not in spaces
        assert combination.unlearning.optimizer == ("adam" if method == "bad_t" else "sgd")
    cells = load_suite(JOBS[0].parent / "deep_unlearn_lira.yaml")
    assert (cells.training["epochs"], cells.halves, len(cells.forget_seeds)) == (91, 64, 10)


def test_mubench_is_the_papers_grid():
    plan = make_plan(load_suite(Path(JOBS[0]).parent / "mubench.yaml"))
    models = {(trial.task, trial.model) for trial in plan.trials.values()}
    # 7 methods of which two take no learning rate, 10 ratios, 5 seeds, 4 rates
    assert len(plan.trials) == len(models) * 10 * 5 * (2 + 5 * 4) - sum(part.trials for part in plan.left_out)
