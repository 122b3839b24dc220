"""CIFAR-10 and CIFAR-100 in their original python layout: 50,000 + 10,000 pictures of 32 x 32."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Columns, Examples, ImageClassification, Splits, carve_validation, task
from mubench_ray.tasks.files import archive_members, cache_root, data_places, download, read_bytes
from mubench_ray.tasks.hub import Pin, checked_labels, from_hub, hub_pin
from mubench_ray.tasks.pictures import random_crop, random_flip
from mubench_ray.trial import Training

#: The only things that a CIFAR pickle may name: numpy's own array constructors (under their old module name too).
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that builds dictionaries, lists, strings and numpy arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """The named constructor, where it is allowed; raises UnpicklingError otherwise."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no CIFAR file does")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_batch(
    where: Path, content: bytes, label_key: str, classes: int, groups: Mapping[str, str] = MappingProxyType({})
) -> Examples:
    """``image`` uint8 (N, 3, 32, 32) and ``labels`` of one pickled batch, with the ``groups`` whose keys are given; raises DataError naming the file."""
    try:
        batch = ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        data, labels = np.asarray(batch["data"]), torch.as_tensor(batch[label_key], dtype=torch.int64)
        told = {name: torch.as_tensor(batch[key], dtype=torch.int64) for name, key in groups.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{where}: not a CIFAR batch ({type(error).__name__}: {error}); fetch it again.") from error
    if data.dtype != np.uint8 or data.shape != (len(labels), 3072) or not len(labels):
        raise DataError(
            f"{where}: holds data {data.dtype} {data.shape} and {len(labels)} labels; expected uint8 (N, 3072) and N."
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"{where}: labels {int(labels.min())}..{int(labels.max())} are out of range 0..{classes - 1}.")
    if wrong := next((name for name, group in told.items() if group.shape != labels.shape), None):
        raise DataError(f"{where}: holds {len(labels)} labels and {len(told[wrong])} of {groups[wrong]}.")
    columns = {"image": torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), "labels": labels}
    return Examples(columns, torch.arange(len(labels)), groups=told)


class Cifar(ImageClassification):
    """What both share: the layout, crop and flip, Deep Unlearn's training."""

    channels = 3
    size = 32
    training = Training(
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=182, batch_size=256, schedule="cosine"
    )

    folder: ClassVar[str]
    archive: ClassVar[str]
    md5: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    test_file: ClassVar[str]
    label_key: ClassVar[str]
    #: The label's column where the data set comes from the hub.
    hub_label: ClassVar[str]
    #: Groups of examples that the data knows beside their labels: their keys in a batch (on the hub without the s).
    groups: ClassVar[dict[str, str]] = {}

    def load(self) -> Splits:
        """Read the batches from the unpacked folder or from the archive, or from the hub where a ``hub.json`` in the folder says so; raises
        DataError naming what is missing or malformed."""
        if pin := hub_pin(self.data_dir, self.folder):
            columns = ("img", self.hub_label, *(key.removesuffix("s") for key in self.groups.values()))
            train, test = (self._hub_part(pin, part) for part in from_hub(pin, ("train", "test"), columns))
            return Splits(*carve_validation(train), test)
        place, contents = self._contents()
        parts = {}
        for name in (*self.train_files, self.test_file):
            if name not in contents:
                raise DataError(f"{place}: lacks {name}; fetch {self.archive} again.")
            parts[name] = read_batch(place / name, contents[name], self.label_key, self.classes, self.groups)
        batches = [parts[name] for name in self.train_files]
        train = {column: torch.cat([batch.columns[column] for batch in batches]) for column in ("image", "labels")}
        groups = {name: torch.cat([batch.groups[name] for batch in batches]) for name in self.groups}
        examples = Examples(train, torch.arange(len(train["labels"])), groups=groups)
        return Splits(*carve_validation(examples), parts[self.test_file])

    def augment(self, columns: Columns, generator: torch.Generator) -> Columns:
        """Random crop after padding by 4, random horizontal flip."""
        return {**columns, "image": random_flip(random_crop(columns["image"], 4, generator), generator)}

    def _hub_part(self, pin: Pin, rows: Any) -> Examples:
        images = np.stack([np.asarray(image.convert("RGB")) for image in rows["img"]]).transpose(0, 3, 1, 2)
        if images.shape[1:] != (3, self.size, self.size):
            raise DataError(
                f"{pin.path}: {pin.id} holds pictures of {images.shape[2]} x {images.shape[3]}, expected {self.size} x {self.size}."
            )
        labels = torch.tensor(checked_labels(pin, rows[self.hub_label], self.classes))
        groups = {name: torch.tensor(rows[key.removesuffix("s")]) for name, key in self.groups.items()}
        columns = {"image": torch.from_numpy(images.copy()), "labels": labels}
        return Examples(columns, torch.arange(len(labels)), groups=groups)

    def _contents(self) -> tuple[Path, dict[str, bytes]]:
        places = data_places(self.data_dir, self.folder)
        for place in places:
            if (place / self.test_file).is_file():
                names = [name for name in (*self.train_files, self.test_file) if (place / name).is_file()]
                return place, {name: read_bytes(place / name) for name in names}
        archives = [place / self.archive for place in data_places(self.data_dir, ".")]
        path = next((archive for archive in archives if archive.is_file()), None)
        if path is None:
            try:
                path = download(
                    f"https://www.cs.toronto.edu/~kriz/{self.archive}", cache_root() / self.archive, f"md5:{self.md5}"
                )
            except DataError as error:
                looked = ", ".join(str(place) for place in places)
                raise DataError(
                    f"{self.name}: no {self.test_file} in {looked}; {error} Put {self.folder} or {self.archive} there."
                ) from error
        return path, {name.rsplit("/", 1)[-1]: content for name, content in archive_members(path, "")}


CITATION = "Krizhevsky 2009, Learning multiple layers of features from tiny images"

# fmt: off
#: Names of CIFAR-100's labels, in the order of its file "meta".
FINE = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)
COARSE = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices", "household_furniture", "insects",
    "large_carnivores", "large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals",
    "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)
# fmt: on


@task("cifar10", "cifar-10")
class Cifar10(Cifar):
    """Ten classes."""

    card = Card(
        title="CIFAR-10",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; research use",
        citation=CITATION,
        revision="cifar-10-python.tar.gz, MD5 c58f30108f718f92721af3b95e74349a",
        sizes={"train": 42500, "validation": 7500, "test": 10000},
        traps="Near-duplicates lie in both train and test.",
    )
    classes = 10
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    class_synonyms = {"plane": "airplane", "car": "automobile"}
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    folder = "cifar-10-batches-py"
    archive = "cifar-10-python.tar.gz"
    md5 = "c58f30108f718f92721af3b95e74349a"
    train_files = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_file = "test_batch"
    label_key = "labels"
    hub_label = "label"


class OfCifar100(Cifar):
    """The pictures of CIFAR-100, whichever of their labels are the task's."""

    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    folder = "cifar-100-python"
    archive = "cifar-100-python.tar.gz"
    md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    train_files = ("train",)
    test_file = "test"


@task("cifar100", "cifar-100")
class Cifar100(OfCifar100):
    """A hundred fine classes."""

    card = Card(
        title="CIFAR-100",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; research use",
        citation=CITATION,
        revision="cifar-100-python.tar.gz, MD5 eb9058c3a382ffc7106e4002c42a8d85",
        sizes={"train": 42500, "validation": 7500, "test": 10000},
        traps="Near-duplicates lie in both train and test. MU-Bench trains on all 50,000: its forget lists name rows that are D_V here.",
    )
    classes = 100
    class_names = FINE
    label_key = "fine_labels"
    hub_label = "fine_label"
    groups = {"superclass": "coarse_labels"}
    shifted = ("cifar100_c",)

    def load(self) -> Splits:
        """As CIFAR-10, with CIFAR-100-C as the shifted set ``cifar100_c`` where it is at hand."""
        splits = super().load()
        place = next(
            (place for place in data_places(self.data_dir, "CIFAR-100-C") if (place / "labels.npy").is_file()), None
        )
        return replace(splits, shifted={"cifar100_c": read_corrupted(place)}) if place else splits


@task("cifar20", "cifar-20", "cifar100-super")
class Cifar20(OfCifar100):
    """CIFAR-100 by its twenty superclasses; the hundred classes are their sub-classes, of which one can be forgotten alone."""

    card = Card(
        title="CIFAR-20 (CIFAR-100 by superclass)",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; research use",
        citation=CITATION,
        revision="cifar-100-python.tar.gz, MD5 eb9058c3a382ffc7106e4002c42a8d85",
        sizes={"train": 42500, "validation": 7500, "test": 10000},
        traps="Near-duplicates lie in both train and test. D_V is carved by superclass: of a sub-class a little more or less than 15 % lies in it.",
    )
    classes = 20
    numbered_as = "cifar100"
    class_names = COARSE
    label_key = "coarse_labels"
    hub_label = "coarse_label"
    groups = {"subclass": "fine_labels"}


#: Of CIFAR-100-C: which of the five severities, and how many pictures of each corruption.
SEVERITY, PICTURES = 3, 1000


def read_corrupted(folder: Path) -> Examples:
    """The first PICTURES test pictures under every corruption at SEVERITY (Hendrycks & Dietterich 2019, arXiv 1903.12261).

    ``source_index`` counts rows of the corruptions' files, one file after the other by name.
    """
    rows = slice((SEVERITY - 1) * 10000, (SEVERITY - 1) * 10000 + PICTURES)
    files = sorted(path for path in folder.glob("*.npy") if path.name != "labels.npy")
    arrays = [_read_array(path, (50000, 32, 32, 3)) for path in files]
    if not arrays:
        raise DataError(f"{folder}: holds labels.npy but no corruption.")
    labels = torch.from_numpy(_read_array(folder / "labels.npy", (50000,))[rows].astype(np.int64))
    image = torch.from_numpy(np.concatenate([array[rows] for array in arrays]).transpose(0, 3, 1, 2).copy())
    source = torch.cat([torch.arange(rows.start, rows.stop) + 50000 * number for number in range(len(files))])
    groups = {"test_row": torch.arange(PICTURES).repeat(len(files))}
    return Examples({"image": image, "labels": labels.repeat(len(files))}, source, groups=groups)


def _read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not an array that can be read ({error}); fetch it again.") from error
    if array.shape != shape:
        raise DataError(f"{path}: has shape {array.shape}, expected {shape}.")
    return array
