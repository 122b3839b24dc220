"""Metrics: arrays to numbers."""

from mubench_ray.metrics.base import METRICS, Metric, compute_all, compute_one, metric

__all__ = ["METRICS", "Metric", "compute_all", "compute_one", "metric"]
