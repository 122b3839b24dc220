"""Swin transformer (Liu et al. 2021) through transformers."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.checkpoint import TransformersImageModel
from mubench_ray.tasks.base import ImageClassification


class Swin(TransformersImageModel):
    """A Swin transformer; ``image_size`` None keeps the task's own size."""

    family = "swin"
    citation = "Liu et al. 2021, arXiv 2103.14030"
    architecture = "SwinForImageClassification"
    config_class = "SwinConfig"

    def __init__(
        self,
        width: int,
        depths: list[int],
        heads: list[int],
        patch: int = 4,
        window: int = 7,
        image_size: int | None = 224,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.width, self.depths, self.heads, self.patch, self.window = width, depths, heads, patch, window
        self.image_size, self.hub, self.revision = image_size, hub, revision

    def settings(self, task: ImageClassification) -> dict[str, Any]:
        """Width, depths, heads, patches and windows."""
        return {
            "image_size": self.image_size or task.size,
            "num_channels": self.input_channels(task),
            "patch_size": self.patch,
            "window_size": self.window,
            "embed_dim": self.width,
            "depths": self.depths,
            "num_heads": self.heads,
        }


# The published checkpoints say "tiny" where the paper says Swin-T; here -tiny is the configuration for tests.
register("swin-tiny", Swin(16, [1, 1], [2, 4], patch=2, window=2, image_size=None))
register(
    "swin-t",
    Swin(
        96,
        [2, 2, 6, 2],
        [3, 6, 12, 24],
        hub="microsoft/swin-tiny-patch4-window7-224",
        revision="d00d478bfaf1f417d34a1186673ad4b4be264c51",
    ),
)
register("swin-s", Swin(96, [2, 2, 18, 2], [3, 6, 12, 24], hub="microsoft/swin-small-patch4-window7-224"))
register(
    "swin-b",
    Swin(
        128,
        [2, 2, 18, 2],
        [4, 8, 16, 32],
        hub="microsoft/swin-base-patch4-window7-224-in22k",
    ),
)
