"""Vision transformer (Dosovitskiy et al. 2021) through transformers."""

from __future__ import annotations

from torch import nn

from mubench_ray.models.base import ImageModel, register
from mubench_ray.tasks.base import Task


class ViT(ImageModel):
    """A ViT from its config, without weights; ``image_size`` None keeps the task's own size, ``patch`` None makes 4 x 4 patches."""

    family = "vit"
    citation = "Dosovitskiy et al. 2021, arXiv 2010.11929"

    def __init__(self, hidden: int, layers: int, heads: int, patch: int | None, image_size: int | None = 224) -> None:
        self.hidden, self.layers, self.heads, self.patch, self.image_size = hidden, layers, heads, patch, image_size

    def build(self, task: Task) -> nn.Module:
        """A network for the task's channels and classes."""
        from transformers import ViTConfig, ViTForImageClassification

        size = self.image_size or task.size
        config = ViTConfig(
            image_size=size,
            patch_size=self.patch or size // 4,
            num_channels=task.channels,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden,
            num_labels=task.classes,
        )
        return ViTForImageClassification(config)


register("vit-tiny", ViT(hidden=48, layers=3, heads=4, patch=None, image_size=None))
register("vit-s", ViT(384, 12, 6, 16), "vit-small")
register("vit-b", ViT(768, 12, 12, 16), "vit-base")
register("vit-l", ViT(1024, 24, 16, 16), "vit-large")
