"""Floating point operations of any work, counted as torch runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_backward_flop_count, sdpa_flop_count

R = TypeVar("R")


# What is counted is given shapes, not tensors.
def _attention_forward(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _convolution_backward(
    grad: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int,
    output_mask: list[bool], **kwargs: Any,
) -> int:  # fmt: skip
    return conv_flop_count(x, weight, grad, transposed) * sum(output_mask[:2])


# torch counts attention on CUDA; its CPU kernel is missing from the table, and a transformer's cost with it. Its count of a grouped convolution's
# backward pass is that of an ungrouped one: a depthwise network would seem to cost ten times what it does. Ours is the same for one group.
_CORRECTIONS = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flos(work: Callable[[], R]) -> tuple[R, int]:
    """Run ``work`` and count its floating point operations (multiplications and additions of matmuls, convolutions, attention)."""
    result, flos, _ = count_flos_apart(work)
    return result, flos


def count_flos_apart(work: Callable[[], R]) -> tuple[R, int, int]:
    """``count_flos``, and how many of the operations belong to no network: a loss that multiplies outputs with each other."""
    with FlopCounterMode(display=False, custom_mapping=_CORRECTIONS) as counter:
        result = work()
    counts = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}
    networks = sum(flos for name, flos in counts.items() if name != "Global" and "." not in name)
    return result, counter.get_total_flops(), counter.get_total_flops() - networks
