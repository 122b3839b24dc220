"""Weights of a network as a state dict in one file, that anybody's code may have written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.models.places import NUMBERS, reason_of

#: What people call the state dict in a file that holds more than that, and what wrappers put before every name.
INSIDE = ("state_dict", "model_state_dict", "model", "net")
WRAPPED = ("module.", "_orig_mod.")

#: How the names of tensors end that are computed anew or that no pass here reads: their absence and presence say nothing.
SPARE = (
    "position_ids",
    "inv_freq",
    "relative_position_index",
    "num_batches_tracked",
    "mask_token",
    "masked_spec_embed",
)


def read_state(path: Path, headers: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by name, as they are; with ``headers`` empty ones of their shapes, for what is only compared.

    A pickle is read with ``weights_only``: nothing in it is run. Raises MubenchError where it cannot be read or holds no state dict.
    """
    try:
        if path.suffix in NUMBERS:
            return _headers(path) if headers else load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except SafetensorError as error:
        raise MubenchError(f"{str(path)!r} is damaged: {reason_of(error)} Copy it again.") from error
    except Exception as error:  # a pickle that is none raises any of many
        raise MubenchError(
            f"{str(path)!r} holds something else than tensors, or is damaged ({reason_of(error)[:120]}): nothing in it is run. "
            "Save torch.save(network.state_dict(), FILE), or safetensors."
        ) from error
    for name in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(each, Tensor) for each in content.values())
    ):
        raise MubenchError(
            f"{str(path)!r} holds no state dict (names with tensors). Save torch.save(network.state_dict(), FILE)."
        )
    for start in WRAPPED:
        if all(name.startswith(start) for name in content):
            content = {name.removeprefix(start): tensor for name, tensor in content.items()}
    return dict(content)


def _headers(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118


def fill(network: nn.Module, weights: dict[str, Tensor], where: str) -> nn.Module:
    """Put a state dict into a network, in the network's precision. Raises MubenchError naming what does not fit: every tensor counts but those that several
    names share, which need be there once."""
    wanted = network.state_dict()
    shared: dict[int, list[str]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        shared.setdefault(id(tensor), []).append(name)
    given = dict(weights)
    for names in shared.values():
        if there := next((name for name in names if name in given), None):
            given |= {name: given[there] for name in names if name not in given}
    faults = {
        "it lacks": [name for name in wanted if name not in given and not name.endswith(SPARE)],
        "it has in another shape": [
            f"{name}: {tuple(given[name].shape)}, the network's {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ],
        "the network has no place for": [name for name in given if name not in wanted and not name.endswith(SPARE)],
    }
    if said := [f"{what} {len(names)} ({first(names)})" for what, names in faults.items() if names]:
        raise MubenchError(f"{where} is not a state dict of this network: of its tensors {'; '.join(said)}.")
    if not any(tensor.is_meta for tensor in (*given.values(), *wanted.values())):
        network.load_state_dict({name: tensor for name, tensor in given.items() if name in wanted}, strict=False)
    return network


def first(names: list[Any]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
