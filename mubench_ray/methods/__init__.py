"""Methods: one file each."""

from mubench_ray.methods.base import (
    METHODS,
    Context,
    LearningRate,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    at_epochs,
    choice,
    integer,
    kl,
    log_uniform,
    method,
    share,
    uniform,
)

__all__ = [
    "METHODS",
    "Context",
    "LearningRate",
    "Method",
    "Optimizer",
    "Phase",
    "Taxonomy",
    "at_epochs",
    "choice",
    "integer",
    "kl",
    "log_uniform",
    "method",
    "share",
    "uniform",
]
