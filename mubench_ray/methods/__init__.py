"""Methods: one file each."""

from mubench_ray.methods.base import (
    METHODS,
    Context,
    Method,
    Optimizer,
    Phase,
    Taxonomy,
    choice,
    integer,
    kl,
    log_uniform,
    method,
    uniform,
)

__all__ = [
    "METHODS",
    "Context",
    "Method",
    "Optimizer",
    "Phase",
    "Taxonomy",
    "choice",
    "integer",
    "kl",
    "log_uniform",
    "method",
    "uniform",
]
