"""Metrics: arrays to numbers, of one trial (``METRICS``) and of many at once (``GROUP_METRICS``)."""

from mubench_ray.metrics.base import METRICS, Metric, compute_all, compute_one, metric
from mubench_ray.metrics.group import GROUP_METRICS, GroupMetric, Part, compute_group, group_metric

__all__ = [
    "GROUP_METRICS",
    "METRICS",
    "GroupMetric",
    "Metric",
    "Part",
    "compute_all",
    "compute_group",
    "compute_one",
    "group_metric",
    "metric",
]
