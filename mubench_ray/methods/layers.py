"""Parts of a network that methods speak of, found in any architecture: convolutions, norms, the head, the last stages; and how they are drawn anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mubench_ray.errors import MubenchError
from mubench_ray.tasks.base import Classification
from mubench_ray.training.context import Context

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = Convolution | nn.Linear


def convolutions(network: nn.Module) -> dict[str, Convolution]:
    """The convolution layers by name, in the order of the network's definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, CONVOLUTIONS)}


def linears(network: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}


def layers(network: nn.Module) -> dict[str, Layer]:
    """The convolution and linear layers by name, in the order of the network's definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, (*CONVOLUTIONS, nn.Linear))}


def norm_parameters(network: nn.Module) -> set[str]:
    """Names of the parameters of normalisation layers (batch, layer, group, RMS: every class with Norm in its name)."""
    return {
        f"{name}.{own}" if name else own
        for name, module in network.named_modules()
        if "Norm" in type(module).__name__
        for own, _ in module.named_parameters(recurse=False)
    }


def first_layer(network: nn.Module) -> str:
    """Name of the first layer with a weight matrix or kernel: a convolution, linear or embedding layer."""
    for name, module in network.named_modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear, nn.Embedding)):
            return name
    raise MubenchError(f"{type(network).__name__} has no convolution, linear or embedding layer.")


def head(network: nn.Module) -> str:
    """Name of the last linear layer; raises MubenchError where there is none of its own (see ``no_head``)."""
    if reason := no_head(network):
        raise MubenchError(f"{type(network).__name__}: {reason}.")
    return list(linears(network))[-1]


def no_head(network: nn.Module) -> str | None:
    """Why there is no head that could be drawn anew alone, or None."""
    names = list(linears(network))
    if not names:
        return "the network has no linear layer as its head"
    if (last := [*convolutions(network)][-1:]) and list(layers(network))[-1] == last[0]:
        return f"its last layer {last[0]} is a convolution"
    if f"{names[-1]}.weight" not in dict(network.named_parameters()):
        return f"its last linear layer {names[-1]} shares its weight with another layer (an embedding), which would be drawn anew with it"
    return None


def stages(network: nn.Module) -> list[str]:
    """Names of the network's stages in order: the children of the list of modules that holds the most parameters.

    That is the three stages of the small CNN, the four of a ResNet or Swin, the blocks of a transformer. Empty where there is no such list.
    """
    best: list[str] = []
    most = 0
    # A U-Net's way up reads what its way down left behind: its blocks are no sequence.
    if hasattr(network, "down_blocks") and hasattr(network, "up_blocks"):
        return []
    for name, module in network.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        prefix = f"{name}." if name else ""
        held = [f"{prefix}{child}" for child, part in module.named_children() if any(True for _ in part.parameters())]
        size = sum(p.numel() for p in module.parameters())
        if len(held) >= 2 and size > most:
            best, most = held, size
    return best


def last_stages(network: nn.Module, k: int) -> set[str]:
    """Names of the parameters and buffers of the last ``k`` stages and of everything after them (final norm, pooler, head).

    Raises MubenchError where the network has fewer stages.
    """
    found = stages(network)
    if k > len(found):
        raise MubenchError(f"k = {k}: {type(network).__name__} has only {len(found)} stages.")
    names = list(network.state_dict(keep_vars=True))
    inside = [any(name.startswith(f"{stage}.") for stage in found[-k:]) for name in names]
    last = max(place for place, yes in enumerate(inside) if yes)
    return {name for place, name in enumerate(names) if inside[place] or place > last}


@torch.no_grad()
def reinitialise(ctx: Context, names: Iterable[str], stream: str) -> None:
    """Draw these parameters and buffers of f_U anew, as the architecture itself initialises them; ``stream`` names the draw."""
    fresh = ctx.fresh_network(stream).state_dict()
    state = ctx.network.state_dict(keep_vars=True)
    for name in names:
        state[name].copy_(fresh[name])


def layer_state(network: nn.Module, layer: str) -> list[str]:
    """Names of the parameters and buffers of one layer."""
    return [name for name in network.state_dict(keep_vars=True) if name.startswith(f"{layer}.")]


@torch.no_grad()
def set_weight(layer: Layer, weight: Tensor) -> None:
    """Give a layer this weight, also where its weight is computed from other parameters (weight normalisation)."""
    if is_parametrized(layer, "weight"):
        layer.weight = weight
    else:
        layer.weight.copy_(weight)


def normal(tensor: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of the shape, type and device of ``tensor``; drawn on the CPU, so the same on every device."""
    return (std * torch.randn(tensor.shape, generator=generator)).to(tensor)


def class_weights(ctx: Context, power: float) -> Tensor:
    """n_c^-power of every class, n_c its number of examples in D_R, (classes,); 0 for a class that D_R has not. Raises MubenchError for a task without
    classes."""
    if not isinstance(ctx.task, Classification):
        raise MubenchError(f"task {ctx.task.name} has no classes to weigh.")
    retain = ctx.data.rows("retain")
    counts = retain.examples.labels[retain.positions].bincount(minlength=ctx.task.classes).float()
    return torch.where(counts > 0, counts.clamp(min=1) ** -power, 0.0).to(ctx.device)
