"""VideoMAE (Tong et al. 2022) through transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import register
from mubench_ray.models.checkpoint import TransformersModel
from mubench_ray.models.processor import PictureProcessor, picture_processor, refuse_pictures, unlike_pictures
from mubench_ray.tasks.base import Columns
from mubench_ray.tasks.video import VideoClassification


class VideoMAE(TransformersModel[VideoClassification]):
    """A VideoMAE encoder with a classification head; ``image_size`` None keeps the task's own size with 4 x 4 patches."""

    family = "videomae"
    modality = "video"
    citation = "Tong et al. 2022, arXiv 2203.12602"
    architecture = "VideoMAEForVideoClassification"
    config_class = "VideoMAEConfig"
    head = ("classifier.", "fc_norm.")
    channels: int | None = None
    #: What a checkpoint's own processor does; None: its image size, and the task's mean and standard deviation.
    processor: PictureProcessor | None = None

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        image_size: int | None = 224,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.hidden, self.layers, self.heads, self.image_size = hidden, layers, heads, image_size
        self.hub, self.revision = hub, revision

    def settings(self, task: VideoClassification) -> dict[str, Any]:
        """Width, depth, heads, patches and frames."""
        size = self.image_size or task.size
        return {
            "image_size": size,
            "patch_size": 16 if self.image_size else size // 4,
            "num_channels": task.channels,
            "num_frames": task.frames,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
        }

    def adopt(self) -> None:
        """Take the checkpoint's processor, image size and channels; grey pictures are repeated."""
        self.image_size, self.channels = self.declared.image_size, self.declared.num_channels
        assert self.source is not None
        self.processor = picture_processor(self.source, self.revision)

    def check(self, task: VideoClassification, finished: bool = False) -> None:
        """Raise MubenchError also where the processor does not give what the network reads."""
        super().check(task, finished)
        if self.source is not None:
            refuse_pictures(self, self.processor, task.channels, task.size, self.image_size)
            if task.frames != self.declared.num_frames:
                raise MubenchError(
                    f"model {self.name}: {self.source!r} reads {self.declared.num_frames} frames, {task.name} gives {task.frames}."
                )

    def remarks(self, task: VideoClassification, finished: bool = False) -> list[str]:
        """Also what is done to the task's frames."""
        said = super().remarks(task, finished)
        return (
            said
            if self.source is None
            else [*said, *unlike_pictures(self, self.processor, task.name, task.size, "frames")]
        )

    def encode(self, task: VideoClassification, columns: Columns) -> Columns:
        """``pixel_values``, float32 (B, T, C, H, W), normalised as the checkpoint's processor does, or with the task's mean and standard deviation."""
        video = columns["video"]
        if self.processor is not None:
            if self.channels and video.shape[2] != self.channels:
                video = video.expand(-1, -1, self.channels, -1, -1)
            return {"pixel_values": self.processor(video)}
        mean = torch.tensor(task.mean, device=video.device).view(-1, 1, 1) * 255
        std = torch.tensor(task.std, device=video.device).view(-1, 1, 1) * 255
        pixels = (video.float() - mean) / std
        if self.image_size and video.shape[-1] != self.image_size:
            resized = F.interpolate(pixels.flatten(0, 1), size=self.image_size, mode="bilinear", antialias=True)
            pixels = resized.unflatten(0, video.shape[:2])
        if self.channels and pixels.shape[2] != self.channels:
            pixels = pixels.expand(-1, -1, self.channels, -1, -1)
        return {"pixel_values": pixels}


register("videomae-tiny", VideoMAE(32, 2, 2, image_size=None))
register(
    "videomae-base",
    VideoMAE(768, 12, 12, hub="MCG-NJU/videomae-base", revision="dc740ceda42fce44faed2ea03c6d447db72f6af9"),
    "videomae",
)
register("videomae-large", VideoMAE(1024, 24, 16, hub="MCG-NJU/videomae-large"))
