"""Scikit-learn's bundled handwritten digits: small, real, and always at hand."""

from __future__ import annotations

from typing import cast

import torch

from mubench_ray.randomness import numpy_generator
from mubench_ray.tasks.base import Card, Examples, ImageClassification, Splits, carve_validation, task
from mubench_ray.trial import Training


@task("digits")
class Digits(ImageClassification):
    """1,797 real 8 x 8 digits of ten classes; a class-proportional fifth is D_Test."""

    card = Card(
        title="Optical recognition of handwritten digits (test part), as bundled with scikit-learn",
        source="sklearn.datasets.load_digits",
        licence="CC BY 4.0",
        citation="Alpaydin & Kaynak 1998, UCI Machine Learning Repository, doi:10.24432/C50P49",
        revision="scikit-learn wheel",
        sizes={"train": 1225, "validation": 217, "test": 355},
        traps="So easy that accuracies saturate; read the losses too.",
    )
    classes = 10
    class_names = tuple(map(str, range(10)))
    channels = 1
    size = 8
    mean = (0.305,)
    std = (0.376,)
    training = Training(optimizer="adam", lr=1e-3, epochs=15, batch_size=32, weight_decay=0.0, schedule="cosine")

    def load(self) -> Splits:
        """Read the digits; pixel values 0..16 are spread over 0..255."""
        from sklearn.datasets import load_digits
        from sklearn.utils import Bunch

        bunch = cast(Bunch, load_digits())  # a pair only with return_X_y
        image = torch.from_numpy(bunch.images / 16 * 255).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(bunch.target).long()
        everything = Examples({"image": image, "labels": labels}, torch.arange(len(labels)))
        rng = numpy_generator("digits-test", 0)
        test = torch.cat(
            [rows[torch.from_numpy(rng.permutation(len(rows))[: len(rows) // 5])]
             for rows in ((labels == c).nonzero().flatten() for c in range(10))]
        ).sort().values  # fmt: skip
        mask = torch.ones(len(labels), dtype=torch.bool)
        mask[test] = False
        train, validation = carve_validation(everything.select(mask.nonzero().flatten()))
        return Splits(train, validation, everything.select(test))
