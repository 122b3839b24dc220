"""Seeds for named streams, so that no draw depends on what was drawn before it, on the process or on the order of trials."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same in every process (``hash`` is not)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(*parts: object) -> torch.Generator:
    """A CPU torch generator for the stream that ``parts`` name."""
    return torch.Generator().manual_seed(derive(*parts))


def numpy_generator(*parts: object) -> np.random.Generator:
    """A numpy generator for the stream that ``parts`` name."""
    return np.random.default_rng(derive(*parts))
