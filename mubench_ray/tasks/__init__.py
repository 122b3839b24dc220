"""Tasks: one file a data set."""

from mubench_ray.tasks.base import (
    TASKS,
    Batch,
    Card,
    Classification,
    Columns,
    Examples,
    ImageClassification,
    MappedExamples,
    Splits,
    Task,
    carve_validation,
    task,
)

__all__ = [
    "TASKS",
    "Batch",
    "Card",
    "Classification",
    "Columns",
    "Examples",
    "ImageClassification",
    "MappedExamples",
    "Splits",
    "Task",
    "carve_validation",
    "task",
]
