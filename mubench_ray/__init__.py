"""mubench_ray: a Ray-distributed benchmark engine for machine unlearning.

>>> from mubench_ray import run, load_results
>>> run("jobs/quickstart.yaml", out="results/quickstart")  # doctest: +SKIP
>>> load_results("results/quickstart").to_pandas()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "run": ("mubench_ray.engine.run", "run_suite"),
    "plan": ("mubench_ray.engine.plan", "make_plan"),
    "run_trial": ("mubench_ray.trials.run_trial", "run_trial"),
    "load_suite": ("mubench_ray.suite", "load_suite"),
    "make_suite": ("mubench_ray.suite", "make_suite"),
    "load_results": ("mubench_ray.results.observations", "load_results"),
    "write_report": ("mubench_ray.report", "write_report"),
    "Suite": ("mubench_ray.suite", "Suite"),
    "Trial": ("mubench_ray.trial", "Trial"),
    "ForgetSet": ("mubench_ray.trial", "ForgetSet"),
    "ArtifactStore": ("mubench_ray.trials.artifacts", "ArtifactStore"),
    "Method": ("mubench_ray.methods", "Method"),
    "register_method": ("mubench_ray.methods", "method"),
    "register_task": ("mubench_ray.tasks", "task"),
    "register_model": ("mubench_ray.models", "register"),
    "register_metric": ("mubench_ray.metrics", "metric"),
    "UnlearningArguments": ("mubench_ray.trainer", "UnlearningArguments"),
    "UnlearningTrainer": ("mubench_ray.trainer", "UnlearningTrainer"),
    "MubenchError": ("mubench_ray.errors", "MubenchError"),
}

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]: taken from the table


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that ``import mubench_ray`` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mubench_ray' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)
