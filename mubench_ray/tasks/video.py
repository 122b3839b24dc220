"""Tasks that watch a clip, and how frames are taken from a video file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from mubench_ray.errors import DataError, MubenchError
from mubench_ray.tasks.base import Classification, Columns


class VideoClassification(Classification):
    """Clips in column ``video`` (uint8, N x frames x channels x size x size) with ``labels``."""

    modality = "video"
    frames: ClassVar[int]
    channels: ClassVar[int]
    size: ClassVar[int]
    #: Mean and standard deviation of the pixels in [0, 1], per channel.
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    evaluation_batch = 64

    def blank(self, rows: int) -> Columns:
        """Black clips of class 0."""
        video = torch.zeros(rows, self.frames, self.channels, self.size, self.size, dtype=torch.uint8)
        return {"video": video, "labels": torch.zeros(rows, dtype=torch.int64), "index": torch.arange(rows)}


def read_clip(path: Path, frames: int, size: int) -> np.ndarray:
    """``frames`` frames evenly spaced over a video file, uint8 (frames, 3, size, size); the whole picture is squeezed to a square.

    Raises DataError naming a file that is damaged or has no frames, MubenchError where PyAV is not installed.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise MubenchError("Reading videos needs PyAV: pip install av.") from error
    try:
        with av.open(str(path)) as container:
            every = [frame.to_ndarray(width=size, height=size, format="rgb24") for frame in container.decode(video=0)]
    except (FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{path}: not a readable video ({error}); fetch it again.") from error
    if not every:
        raise DataError(f"{path}: has no frames; fetch it again.")
    chosen = np.linspace(0, len(every) - 1, frames).round().astype(int)
    return np.stack([every[place] for place in chosen]).transpose(0, 3, 1, 2)
