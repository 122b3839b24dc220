"""LoRA through peft, by the share of parameters that is trained (MU-Bench: 10, 20 and 50 %)."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError

#: Layers that peft adapts.
ADAPTED = (nn.Linear, nn.Conv2d, nn.Conv1d)


def rank_for(network: nn.Module, share: float) -> int:
    """The rank at which adapters on every linear and convolution layer hold nearest to ``share`` of the network's own parameters.

    A rank-1 adapter of a layer with weight (out, in, *kernel) holds in * prod(kernel) + out parameters (of a grouped convolution, in is a group's).
    At least 1.
    """
    adapters = sum(m.weight[0].numel() + m.weight.shape[0] for m in adapted(network).values())
    if not adapters:
        raise MubenchError("lora: the network has no linear or convolution layer to adapt.")
    return max(1, round(share * sum(p.numel() for p in network.parameters()) / adapters))


def adapted(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d | nn.Conv1d]:
    """The layers that get an adapter, by name.

    Left out are grouped convolutions (peft's adapters need a rank that the groups divide) and a head that shares its weight with an embedding: merging
    its adapter would part the two.
    """
    owners = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, ADAPTED) and getattr(module, "groups", 1) == 1 and owners[id(module.weight)] <= 1
    }


def add_lora(network: nn.Module, share: float) -> nn.Module:
    """The network with adapters, everything else frozen; the caller has seeded torch."""
    from peft import LoraConfig, get_peft_model

    rank = rank_for(network, share)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(adapted(network)), bias="none")
    return get_peft_model(network, config)


def merge_lora(network: nn.Module) -> nn.Module:
    """The network as it was before ``add_lora``, with the adapters' change in its own weights."""
    merge = getattr(network, "merge_and_unload", None)
    if merge is None:
        raise MubenchError("lora: the network has no adapters that could be merged.")
    with torch.no_grad():
        return merge()


def trained_by_lora(network: nn.Module, original: nn.Module) -> dict[str, Tensor]:
    """What of a network with adapters is not as in the network that they were added to: the adapters and, of BatchNorm say, buffers; by name."""
    known = original.state_dict()

    def is_new(name: str, value: Tensor) -> bool:
        own = name.removeprefix("base_model.model.").replace(".base_layer", "")
        return own not in known or not torch.equal(value, known[own])

    return {name: value for name, value in network.state_dict().items() if is_new(name, value)}
