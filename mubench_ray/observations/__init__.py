"""Observations: what is looked at of f_U, one file each."""

from mubench_ray.observations.base import OBSERVATIONS, Frozen, Observation, Seen, observation

__all__ = ["OBSERVATIONS", "Frozen", "Observation", "Seen", "observation"]
