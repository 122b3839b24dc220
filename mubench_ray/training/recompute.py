"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from torch import nn

from mubench_ray.errors import MubenchError


def recompute_activations(network: nn.Module) -> nn.Module:
    """The network, keeping only its blocks' inputs while it trains; raises MubenchError where its architecture has no such mode.

    The gradient is the same. A step costs about a third more FLOs, which are counted like any others.
    """
    try:
        if hasattr(network, "gradient_checkpointing_enable"):
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            # With LoRA nothing before the first adapter needs a gradient, and a block without one is not recomputed.
            if hasattr(network, "peft_config") and hasattr(network, "enable_input_require_grads"):
                network.enable_input_require_grads()
            return network
        if hasattr(network, "enable_gradient_checkpointing"):
            network.enable_gradient_checkpointing()
            return network
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise MubenchError(
            f"gradient_checkpointing: {type(network).__name__} cannot ({' '.join(str(error).split())}); leave it out."
        ) from error
    raise MubenchError(f"gradient_checkpointing: {type(network).__name__} has no such mode; leave it out.")
