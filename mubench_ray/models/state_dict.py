"""Weights as people keep them: a state dict in safetensors, or in a ``.pth`` that is read without running what it holds; and whether they are a network's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError, message_of

#: How files of weights end.
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
#: What a training script keeps a state dict under, beside its optimiser and its epoch.
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
#: What wrappers of a network put before its names: torch's DataParallel, its compiler, Lightning's module.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
#: Names that a fault lists.
NAMED = 5
#: How the names of tensors end that say nothing of what a network computes.
SPARE = ("num_batches_tracked",)


class Weights(NamedTuple):
    """Tensors by name, and what was done to find them."""

    tensors: dict[str, Tensor]
    notes: list[str]


def is_weights(source: str) -> bool:
    """Whether a checkpoint is said to be a file of weights."""
    return Path(source).suffix.lower() in SUFFIXES


def read_weights(source: str | Path, wanted: set[str] | None = None) -> Weights:
    """The state dict in a file, or in a folder that holds one; ``wanted`` are the names of the network that it is for.

    A dict that wraps it is opened and a prefix of all names is taken off where the network has none such, and both are said. Raises MubenchError where the
    file is damaged, or holds what cannot be read without running code.
    """
    path = _file(Path(source))
    found, notes = _read(path), list[str]()
    while not _is_state(found):
        key = next((key for key in WRAPPERS if isinstance(found, dict) and isinstance(found.get(key), dict)), None)
        if key is None:
            told = (
                f"a dict of {', '.join(map(repr, list(found)[:NAMED]))}"
                if isinstance(found, dict)
                else type(found).__name__
            )
            raise MubenchError(
                f"{path}: holds no state dict, but {told}: write one with torch.save(network.state_dict(), PATH)."
            )
        found = found[key]
        notes.append(f"its state dict is under {key!r}")
    tensors = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    for prefix in PREFIXES:
        bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        own = wanted is not None and bool(wanted & tensors.keys())
        if (
            tensors
            and all(name.startswith(prefix) for name in tensors)
            and not own
            and (wanted is None or wanted & bare.keys())
        ):
            tensors = bare
            notes.append(f"{prefix!r} is taken off the names of its tensors")
    if bad := [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]:
        raise MubenchError(
            f"{path}: {bad[0]} is not finite everywhere ({len(bad)} such tensors): the network diverged before it was saved."
        )
    if other := sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
        - {"float32"}
    ):
        notes.append(f"kept in {' and '.join(other)}, computed in float32")
    return Weights(tensors, notes)


def _file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if is_weights(str(each)))
        if len(found) != 1:
            there = ", ".join(each.name for each in found) or "none"
            raise MubenchError(
                f"{path}: a folder of weights holds one file that ends in {', '.join(SUFFIXES)}; this one holds {there}. Name the file."
            )
        return found[0]
    if not path.is_file():
        raise MubenchError(f"{path}: there is no such file of weights.")
    return path


def _read(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what damaged files raise is any of many
        said = message_of(error)
        if "weights_only" in said or "Unsupported" in said:
            what = "holds more than tensors, which could only be read by running code from it"
            raise MubenchError(
                f"{path}: {what}. Write the weights alone: torch.save(network.state_dict(), PATH)."
            ) from error
        raise MubenchError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {said[:200]}): it is damaged, or no such file."
        ) from error


def _is_state(found: Any) -> bool:
    if not isinstance(found, dict) or not found:
        return False
    return all(isinstance(name, str) for name in found) and any(isinstance(value, Tensor) for value in found.values())


def misfits(network: nn.Module, tensors: dict[str, Tensor], but: str | None = None) -> list[str]:
    """What of a state dict does not fit a network, in words: names that it lacks, names that the network has not, and other shapes, the first five of each;
    tensors of the module ``but`` apart."""
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    def meant(names: Any) -> list[str]:
        return [name for name in names if not name.endswith(SPARE) and (but is None or not name.startswith(f"{but}."))]

    lacking = meant(name for name in own if name not in tensors)
    spare = meant(name for name in tensors if name not in own)
    shapes = [
        f"{name} is {_shape(tensors[name].shape)} there, {_shape(own[name])} here"
        for name in meant(own)
        if name in tensors and tuple(tensors[name].shape) != own[name]
    ]
    faults = {"lacks": lacking, "holds what the network has no place for:": spare, "has other shapes:": shapes}
    return [
        f"{what} {', '.join(found[:NAMED])}{f' and {len(found) - NAMED} more' * (len(found) > NAMED)}"
        for what, found in faults.items()
        if found
    ]


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "a number"


def last_module(network: nn.Module) -> str:
    """The name of the module with the network's last parameters: its head, of a network that says nothing of one."""
    return [name for name, _ in network.named_parameters()][-1].rpartition(".")[0]
