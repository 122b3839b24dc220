"""MobileNetV2 (Sandler et al. 2018) through transformers."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.checkpoint import TransformersImageModel
from mubench_ray.tasks.base import ImageClassification


class MobileNetV2(TransformersImageModel):
    """A MobileNetV2 at a width multiplier; ``image_size`` None keeps the task's own size."""

    family = "mobilenet"
    citation = "Sandler et al. 2018, arXiv 1801.04381"
    architecture = "MobileNetV2ForImageClassification"
    config_class = "MobileNetV2Config"

    def __init__(self, width: float, image_size: int | None = 224, hub: str | None = None) -> None:
        self.width, self.image_size, self.hub = width, image_size, hub

    def settings(self, task: ImageClassification) -> dict[str, Any]:
        """Width and padding; the paper's own padding and dropout rather than TensorFlow's."""
        return {
            "num_channels": self.input_channels(task),
            "image_size": self.image_size or task.size,
            "depth_multiplier": self.width,
            "tf_padding": False,
            "classifier_dropout_prob": 0.2,
        }


register("mobilenetv2-tiny", MobileNetV2(0.1, image_size=None))
register("mobilenetv2", MobileNetV2(1.0, hub="google/mobilenet_v2_1.0_224"), "mobilenet-v2")
