"""Models: names to networks."""

from mubench_ray.models.base import MODELS, ImageModel, Model, register

__all__ = ["MODELS", "ImageModel", "Model", "register"]
