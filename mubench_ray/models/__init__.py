"""Models: names to networks."""

from mubench_ray.models.base import MODELS, ImageModel, Model, get_model, register

__all__ = ["MODELS", "ImageModel", "Model", "get_model", "register"]
