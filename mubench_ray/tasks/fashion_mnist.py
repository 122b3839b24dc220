"""FashionMNIST: 60,000 + 10,000 pictures of clothes, 28 x 28, ten classes."""

from __future__ import annotations

from pathlib import Path

from mubench_ray.tasks.base import Card, task
from mubench_ray.tasks.idx import IdxImages


@task("fashion_mnist", "fashion-mnist", "FashionMNIST")
class FashionMNIST(IdxImages):
    """The four idx files, found in a data folder, in Debian's dataset-fashion-mnist, or downloaded."""

    card = Card(
        title="Fashion-MNIST",
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        citation="Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747",
        revision="idx files of 2017",
        sizes={"train": 51000, "validation": 9000, "test": 10000},
        traps="Deep Unlearn pads it to 32 px; here it stays at 28.",
    )
    mean = (0.2860,)
    std = (0.3530,)
    class_names = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    folders = ("fashion-mnist", "fashion_mnist")
    elsewhere = (Path("/usr/share/datasets/fashion-mnist"),)
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    md5 = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
    advice = "Put the four idx files into a folder and name it as data_dir, or: apt-get install dataset-fashion-mnist."
