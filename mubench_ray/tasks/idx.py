"""Readers of the idx format of MNIST and its successors, gzipped or plain.

The format (LeCun's MNIST page): two zero bytes, a type byte (0x08 = unsigned byte), the number of dimensions, then each
dimension as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import struct
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mubench_ray.errors import DataError


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The array in an idx file as a uint8 tensor; raises DataError when the file is missing, truncated or of another shape."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again.") from error
    if len(data) < 4 + 4 * dimensions or data[:3] != b"\x00\x00\x08" or data[3] != dimensions:
        raise DataError(f"{path}: not an idx file of unsigned bytes with {dimensions} dimension(s); fetch it again.")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    values = len(data) - 4 - 4 * dimensions
    if values != prod(shape):
        raise DataError(f"{path}: header says {prod(shape):,} values {shape}, the file holds {values:,}; it is truncated or damaged.")
    array = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(array.copy())
