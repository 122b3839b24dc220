"""Clips of one's own: a folder a class, or an index; a clip is a video file or a folder of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from mubench_ray.errors import DataError
from mubench_ray.tasks.examples import Splits
from mubench_ray.tasks.files import read_bytes
from mubench_ray.tasks.image_folder import ImageFolder, typical_size
from mubench_ray.tasks.own import OwnOptions, own
from mubench_ray.tasks.own_files import OwnFiles, of_pixels
from mubench_ray.tasks.pictures import decode
from mubench_ray.tasks.video import VideoClassification, read_clip

#: Largest side that is taken unasked.
LARGEST = 112


class ClipOptions(OwnOptions):
    """How many frames are watched, how large they are, and by what they are normalised."""

    #: Evenly spaced over the clip; of a shorter one some are watched twice.
    frames: int = Field(default=16, ge=1, le=256)
    #: Side in pixels; None: 112 or, of frames that are smaller, the median of their shorter sides.
    size: int | None = Field(default=None, ge=4, le=1024)
    #: Of pixels in [0, 1], one a channel; None: D's own.
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _together(self) -> ClipOptions:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        return self


@own("video_folder", title="Clips in a folder")
class VideoFolder(OwnFiles, VideoClassification):
    """``train/CLASS/*``, perhaps ``val/`` and ``test/`` beside it, or ``CLASS/*`` alone; or an index, a CSV with the columns path, label and perhaps split.
    A clip is a video file, read by PyAV, or a folder of frames in order of their names. Frames are squeezed to squares."""

    Options = ClipOptions
    options: ClassVar[ClipOptions]
    suffixes = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
    inside = ImageFolder.suffixes
    column = "video"
    channels = 3

    @classmethod
    def settled(cls, options: ClipOptions) -> dict[str, Any]:
        """``frames`` and ``size``."""
        first = [frames_of(path)[0] for path in cls.there(options).files if path.is_dir()]
        size = options.size or min(LARGEST, typical_size(first) if first else LARGEST)
        return {"frames": options.frames, "size": size}

    @classmethod
    def measured(cls, splits: Splits) -> dict[str, Any]:
        """``mean`` and ``std``: those that are given, or D's."""
        given = cls.options
        return of_pixels(splits, "video", 2) if given.mean is None else {"mean": given.mean, "std": given.std}

    def decoded(self, path: Path) -> np.ndarray:
        """uint8 (frames, 3, size, size)."""
        if not path.is_dir():
            return read_clip(path, self.frames, self.size)
        every = frames_of(path)
        chosen = np.linspace(0, len(every) - 1, self.frames).round().astype(int)
        return np.stack([decode(every[place], self.size, read_bytes(every[place])) for place in chosen])

    def empty(self) -> np.ndarray:
        """A black clip."""
        return np.zeros((self.frames, self.channels, self.size, self.size), np.uint8)

    def decoding(self) -> dict[str, Any]:
        """Frames and size."""
        return {"frames": self.frames, "size": self.size}


def frames_of(folder: Path) -> list[Path]:
    """The frames in a folder, in order of their names; raises DataError where there is none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ImageFolder.suffixes)
    if not found:
        raise DataError(f"{folder}: holds no frames.")
    return found
