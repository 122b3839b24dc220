"""Forget sets: samplers, one file each, and the split that follows from one."""

from mubench_ray.forget.base import SAMPLERS, Draw, Sampler, Scores, sampler
from mubench_ray.forget.scored import Scored
from mubench_ray.forget.split import ForgetSplit, halves, split_forget

__all__ = ["SAMPLERS", "Draw", "ForgetSplit", "Sampler", "Scored", "Scores", "halves", "sampler", "split_forget"]
