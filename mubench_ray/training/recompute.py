"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from torch import nn

from mubench_ray.errors import MubenchError


def recompute_activations(network: nn.Module) -> nn.Module:
    """The network, keeping only its blocks' inputs while it trains; raises MubenchError where its architecture has no such mode.

    The gradient is the same. A step costs about a third more FLOs, which are counted like any others.
    """
    try:
        if enable := getattr(network, "gradient_checkpointing_enable", None):  # of transformers
            enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            # With LoRA nothing before the first adapter needs a gradient, and a block without one is not recomputed.
            require = getattr(network, "enable_input_require_grads", None)
            if require and hasattr(network, "peft_config"):
                require()
            return network
        if enable := getattr(network, "enable_gradient_checkpointing", None):  # of diffusers
            enable()
            return network
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise MubenchError(
            f"gradient_checkpointing: {type(network).__name__} cannot ({' '.join(str(error).split())}); leave it out."
        ) from error
    raise MubenchError(f"gradient_checkpointing: {type(network).__name__} has no such mode; leave it out.")
