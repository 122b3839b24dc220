"""Whether two checkpoints hold the same weights, tensor by tensor, whatever files they lie in and in whatever precision."""

from __future__ import annotations

import hashlib
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mubench_ray.models.checkpoint import meant

#: Files of a folder that hold weights, in the order in which they are looked for: one kind of them is read.
KINDS = ("*.safetensors", "pytorch_model*.bin", "*.pth", "*.pt", "*.bin")

#: A tensor's shape and type, and how to read it.
Held = tuple[tuple[int, ...], torch.dtype, Callable[[], Tensor]]


def same_weights(original: str | Path, pretrained: str | Path) -> bool:
    """Whether every tensor of the checkpoint ``original`` is one of ``pretrained``'s, by the hash of what it holds: then it was not trained any further.

    Names do not count, since a head puts a prefix before them, nor does the precision: what one holds in float32 and the other in bfloat16 is compared in
    bfloat16. What a head adds is what tells a network trained on the task from the one that it was trained from. False where one of them is not on this
    machine as tensors that can be read here: whether it can be read at all is for its model to say.
    """
    try:
        ours, theirs = (list(_meant(tensors(path))) for path in (original, pretrained))
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError):
        return False
    by_shape: dict[tuple[int, ...], list[Held]] = defaultdict(list)
    for held in theirs:
        by_shape[held[0]].append(held)
    # Shapes and small tensors first: networks that differ are told apart before anything large is read.
    if not ours or any(held[0] not in by_shape for held in ours):
        return False
    known: dict[tuple[int, torch.dtype], str] = {}

    def hashed(held: Held, dtype: torch.dtype) -> str:
        if (key := (id(held), dtype)) not in known:
            known[key] = content_hash(held[2]().to(dtype))
        return known[key]

    for held in sorted(ours, key=lambda held: torch.Size(held[0]).numel()):
        if not any(hashed(held, narrow) == hashed(other, narrow) for other, narrow in _beside(held, by_shape[held[0]])):
            return False
    return True


def _beside(held: Held, others: Iterable[Held]) -> Iterator[tuple[Held, torch.dtype]]:
    """The others, each with the narrower of the two types."""
    for other in others:
        yield other, min((held[1], other[1]), key=lambda dtype: (dtype.itemsize, str(dtype)))


def _meant(found: Iterable[tuple[str, Held]]) -> Iterator[Held]:
    held = dict(found)
    for name in meant(held):
        if held[name][1].is_floating_point:
            yield held[name]


def content_hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape and values in its own type."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(f"{tuple(tensor.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()).hexdigest()


def tensors(source: str | Path) -> Iterator[tuple[str, Held]]:
    """The tensors of a file or a folder by name, not read yet; none of what is not on this machine."""
    path = Path(source)
    for file in [path] if path.is_file() else _files(path):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - it is no dictionary
                    part = opened.get_slice(name)
                    dtype = DTYPES.get(part.get_dtype(), torch.float32)
                    yield name, (tuple(part.get_shape()), dtype, _reader(file, name))
        elif file.suffix in (".bin", ".pth", ".pt"):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            for inner in ("state_dict", "model"):
                content = content.get(inner, content) if isinstance(content, dict) else {}
            for name, value in content.items():
                if isinstance(value, Tensor):
                    yield name, (tuple(value.shape), value.dtype, lambda value=value: value)


#: Of safetensors.
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16} | {
    name: torch.int64 for name in ("I64", "I32", "I16", "I8", "U8", "BOOL")
}


def _reader(file: Path, name: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor(name)

    return read


def _files(folder: Path) -> list[Path]:
    for kind in KINDS:
        if found := sorted(folder.glob(kind)):
            return found
    return []
