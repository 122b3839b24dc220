"""ResNet (He et al. 2016) through transformers, with the ImageNet stem or the CIFAR stem."""

from __future__ import annotations

from typing import Any

from torch import nn

from mubench_ray.models.base import register
from mubench_ray.models.checkpoint import TransformersImageModel
from mubench_ray.tasks.base import ImageClassification


class ResNet(TransformersImageModel):
    """A residual network.

    ``stem="imagenet"`` is the 7 x 7 stride-2 convolution with max pooling, which Deep Unlearn keeps at 32 px;
    ``stem="cifar"`` a 3 x 3 stride-1 convolution without pooling.
    """

    family = "resnet"
    citation = "He, Zhang, Ren & Sun 2016, arXiv 1512.03385"
    architecture = "ResNetForImageClassification"
    config_class = "ResNetConfig"

    def __init__(
        self,
        depths: list[int],
        widths: list[int],
        layer: str,
        stem: str,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.depths, self.widths, self.layer, self.stem = depths, widths, layer, stem
        self.hub, self.revision = hub, revision

    def settings(self, task: ImageClassification) -> dict[str, Any]:
        """Depths and widths of the stages."""
        return {
            "num_channels": self.input_channels(task),
            "embedding_size": self.widths[0] if self.layer == "basic" else 64,
            "hidden_sizes": self.widths,
            "depths": self.depths,
            "layer_type": self.layer,
        }

    def network_class(self) -> Any:
        """transformers' class, with this model's stem."""
        plain = super().network_class()
        if self.stem == "imagenet":
            return plain

        class WithCifarStem(plain):
            def __init__(self, config: Any) -> None:
                super().__init__(config)
                embedder = self.resnet.embedder
                embedder.embedder.convolution = nn.Conv2d(
                    config.num_channels, config.embedding_size, 3, padding=1, bias=False
                )
                embedder.pooler = nn.Identity()
                self.__class__ = plain  # one that is made in a function cannot be pickled

        return WithCifarStem


BASIC = [64, 128, 256, 512]
BOTTLENECK = [256, 512, 1024, 2048]

register("resnet-tiny", ResNet([1, 1], [16, 32], "basic", "cifar"), "resnet-small")
for number, depths, widths, layer, revision in (
    (18, [2, 2, 2, 2], BASIC, "basic", "65a5785d9156231087c481e0c7dd33a5ff6f7e3e"),
    (34, [3, 4, 6, 3], BASIC, "basic", None),
    (50, [3, 4, 6, 3], BOTTLENECK, "bottleneck", "34c2154c194f829b11125337b98c8f5f9965ff19"),
):
    register(
        f"resnet{number}",
        ResNet(depths, widths, layer, "imagenet", f"microsoft/resnet-{number}", revision),
        f"resnet-{number}",
    )
    register(f"resnet{number}-cifar", ResNet(depths, widths, layer, "cifar"), f"resnet-{number}-cifar")
