"""The precision of a step's arithmetic: torch's switches of TF32 on CUDA, and what they make of a ``compute`` that a loop asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

import torch

from mubench_ray.provenance import TENSOR_FLOAT, tensor_float_switches


@contextmanager
def tensor_float(compute: str) -> Iterator[None]:
    """Within it CUDA's convolutions and products of matrices take TF32, where that is what is asked for; otherwise torch's switches stay as they are. They
    are those of the process: whatever else computes in it must not run meanwhile."""
    if compute != "tf32":
        yield
        return
    before = tensor_float_switches()
    try:
        for switch in TENSOR_FLOAT.values():
            attrgetter(switch)(torch.backends).fp32_precision = "tf32"
        yield
    finally:
        for name, switch in TENSOR_FLOAT.items():
            attrgetter(switch)(torch.backends).fp32_precision = before[name]


def compute_at(compute: str, device: str) -> str:
    """What the arithmetic of a loop with this ``compute`` is on a device: ``fp32``, ``bf16``, ``tf32`` where convolutions and products of matrices take it,
    ``fp32 with tf32 convolutions`` or ``fp32 with tf32 matmul`` where one of them does: the first is what torch does on CUDA unless told otherwise.

    TF32 is there on CUDA alone.
    """
    if compute == "bf16":
        return "bf16"
    if not device.startswith("cuda"):
        return "fp32"
    if compute == "tf32":
        return "tf32"
    switches = tensor_float_switches()
    taken = [name for name in ("convolutions", "matmul") if switches[name] == "tf32"]
    return "tf32" if len(taken) == 2 else f"fp32 with tf32 {taken[0]}" if taken else "fp32"
