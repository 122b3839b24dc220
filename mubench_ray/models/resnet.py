"""ResNet (He et al. 2016) through transformers, with the ImageNet stem or the CIFAR stem."""

from __future__ import annotations

from torch import nn

from mubench_ray.models.base import ImageModel, register
from mubench_ray.tasks.base import Task


class ResNet(ImageModel):
    """A residual network from its config, without weights.

    ``stem="imagenet"`` is the 7 x 7 stride-2 convolution with max pooling, which Deep Unlearn keeps at 32 px;
    ``stem="cifar"`` a 3 x 3 stride-1 convolution without pooling.
    """

    family = "resnet"
    citation = "He, Zhang, Ren & Sun 2016, arXiv 1512.03385"

    def __init__(self, depths: list[int], widths: list[int], layer: str, stem: str) -> None:
        self.depths, self.widths, self.layer, self.stem = depths, widths, layer, stem

    def build(self, task: Task) -> nn.Module:
        """A network for the task's channels and classes."""
        from transformers import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(
            num_channels=task.channels,
            embedding_size=self.widths[0] if self.layer == "basic" else 64,
            hidden_sizes=self.widths,
            depths=self.depths,
            layer_type=self.layer,
            num_labels=task.classes,
        )
        network = ResNetForImageClassification(config)
        if self.stem == "cifar":
            embedder = network.resnet.embedder
            embedder.embedder.convolution = nn.Conv2d(task.channels, config.embedding_size, 3, padding=1, bias=False)
            embedder.pooler = nn.Identity()
        return network


BASIC = [64, 128, 256, 512]
BOTTLENECK = [256, 512, 1024, 2048]

register("resnet-tiny", ResNet([1, 1], [16, 32], "basic", "cifar"), "resnet-small")
for stem, suffix in (("imagenet", ""), ("cifar", "-cifar")):
    register(f"resnet18{suffix}", ResNet([2, 2, 2, 2], BASIC, "basic", stem), f"resnet-18{suffix}")
    register(f"resnet34{suffix}", ResNet([3, 4, 6, 3], BASIC, "basic", stem), f"resnet-34{suffix}")
    register(f"resnet50{suffix}", ResNet([3, 4, 6, 3], BOTTLENECK, "bottleneck", stem), f"resnet-50{suffix}")
