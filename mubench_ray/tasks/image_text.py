"""Tasks that judge a sentence about two pictures."""

from __future__ import annotations

from typing import ClassVar

import torch

from mubench_ray.tasks.base import Classification, Columns
from mubench_ray.tasks.text import TextTask


class ImagePairClassification(TextTask, Classification):
    """Pictures in column ``images`` (uint8, N x 2 x 3 x size x size), a sentence in ``text`` (its number) and ``labels``."""

    modality = "image pair + text"
    size: ClassVar[int]
    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    max_length = 40
    evaluation_batch = 64

    def blank(self, rows: int) -> Columns:
        """Black pictures, text 0, class 0."""
        images = torch.zeros(rows, 2, 3, self.size, self.size, dtype=torch.uint8)
        zeros = torch.zeros(rows, dtype=torch.int64)
        return {"images": images, "text": zeros, "labels": zeros.clone(), "index": torch.arange(rows)}
