"""Vision transformer (Dosovitskiy et al. 2021) through transformers."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.checkpoint import TransformersImageModel
from mubench_ray.tasks.base import ImageClassification


class ViT(TransformersImageModel):
    """A ViT; ``image_size`` None keeps the task's own size, ``patch`` None makes 4 x 4 patches."""

    family = "vit"
    citation = "Dosovitskiy et al. 2021, arXiv 2010.11929"
    architecture = "ViTForImageClassification"
    config_class = "ViTConfig"
    one_size = True

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        patch: int | None,
        image_size: int | None = 224,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.hidden, self.layers, self.heads, self.patch, self.image_size = hidden, layers, heads, patch, image_size
        self.hub, self.revision = hub, revision

    def settings(self, task: ImageClassification) -> dict[str, Any]:
        """Width, depth, heads and patches."""
        size = self.image_size or task.size
        return {
            "image_size": size,
            "patch_size": self.patch or size // 4,
            "num_channels": self.input_channels(task),
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
        }


register("vit-tiny", ViT(hidden=48, layers=3, heads=4, patch=None, image_size=None))
register("vit-s", ViT(384, 12, 6, 16, hub="WinKawaks/vit-small-patch16-224"), "vit-small")
register(
    "vit-b",
    ViT(768, 12, 12, 16, hub="google/vit-base-patch16-224-in21k", revision="b4569560a39a0f1af58e3ddaf17facf20ab919b0"),
    "vit-base",
)
register(
    "vit-l",
    ViT(
        1024, 24, 16, 16, hub="google/vit-large-patch16-224-in21k", revision="6074eaf2211423e928c93b93ef773d5da618aa7e"
    ),
    "vit-large",
)
