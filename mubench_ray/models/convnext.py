"""ConvNeXt (Liu et al. 2022) through transformers."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.checkpoint import TransformersImageModel
from mubench_ray.tasks.base import ImageClassification


class ConvNeXt(TransformersImageModel):
    """A ConvNeXt; ``image_size`` None keeps the task's own size."""

    family = "convnext"
    citation = "Liu et al. 2022, arXiv 2201.03545"
    architecture = "ConvNextForImageClassification"
    config_class = "ConvNextConfig"

    def __init__(
        self, depths: list[int], widths: list[int], patch: int = 4, image_size: int | None = 224, hub: str | None = None
    ) -> None:
        self.depths, self.widths, self.patch, self.image_size, self.hub = depths, widths, patch, image_size, hub

    def settings(self, task: ImageClassification) -> dict[str, Any]:
        """Depths and widths of the stages."""
        return {
            "num_channels": self.input_channels(task),
            "image_size": self.image_size or task.size,
            "patch_size": self.patch,
            "num_stages": len(self.depths),
            "depths": self.depths,
            "hidden_sizes": self.widths,
        }


register("convnext-tiny", ConvNeXt([1, 1], [16, 32], patch=2, image_size=None))
register(
    "convnext",
    ConvNeXt([3, 3, 9, 3], [96, 192, 384, 768], hub="facebook/convnext-tiny-224"),
    "convnext-t",
    "convnext-tiny-224",
)
