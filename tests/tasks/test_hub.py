"""Data sets in the hub's form: read from Parquet in a folder, which is what the hub serves; without a network a clear refusal."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.hub import COMMIT, REVISIONS
from tests.tasks.conftest import left_over


def pinned(folder, content, **splits):
    """A data folder whose hub.json points to Parquet files of these data sets."""
    source = folder.parent / f"{folder.name}-hub"
    source.mkdir(parents=True)
    for name, rows in splits.items():
        rows.to_parquet(str(source / f"{name}.parquet"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hub.json").write_text(json.dumps({"id": str(source), **content}))
    return folder.parent


def pictures(size, label, classes, rows=20):
    images = [Pictures.fromarray(np.full((size, size, 3), 5 * i, np.uint8)) for i in range(rows)]
    labels = [i % classes for i in range(rows)]
    column = "img" if label != "label" or size == 32 else "image"
    features = Features({column: Image(), label: ClassLabel(num_classes=classes)})
    rows = Dataset.from_dict({column: images, label: labels}, features=features)
    return rows.add_column("coarse_label", [i // 2 for i in labels]) if label == "fine_label" else rows


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.mark.parametrize(
    ("name", "folder", "label"),
    [("cifar10", "cifar-10-batches-py", "label"), ("cifar100", "cifar-100-python", "fine_label")],
)
def test_cifar(tmp_path, name, folder, label):
    rows = pictures(32, label, 2)
    data = pinned(tmp_path / "data" / folder, {}, train=rows, test=rows)
    splits = TASKS.get(name)(data).load()
    assert len(splits.train) + len(splits.validation) == 20 and len(splits.test) == 20
    taken = splits.test.take(torch.arange(3))
    assert taken["image"].shape == (3, 3, 32, 32) and taken["image"][:, 0, 0, 0].tolist() == [0, 5, 10]
    assert taken["labels"].tolist() == [0, 1, 0]


def test_tiny_imagenet(tmp_path):
    rows = pictures(64, "label", 2)
    data = pinned(tmp_path / "data" / "tiny-imagenet-200", {}, train=rows, valid=rows)
    splits = TASKS.get("tiny_imagenet")(data).load()
    assert len(splits.test) == 20 and splits.test.take(torch.tensor([2]))["image"][0, 0, 0, 0] == 10


def test_imdb_and_samsum(tmp_path):
    reviews = Dataset.from_dict(
        {"text": [f"good<br />film {i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    )
    task = TASKS.get("imdb")(pinned(tmp_path / "data" / "imdb", {}, train=reviews, test=reviews))
    splits = task.load()
    assert len(splits.test) == 20 and task.texts.content[0] == "good film 0"
    chats = Dataset.from_dict({"dialogue": [f"a: {i}\r\nb" for i in range(5)], "summary": [f"s{i}" for i in range(5)]})
    task = TASKS.get("samsum")(pinned(tmp_path / "more" / "samsum", {}, train=chats, validation=chats, test=chats))
    splits = task.load()
    assert task.references(splits.test.take(torch.arange(2))) == ["s0", "s1"] and task.texts.content[0] == "a: 0\nb"


def test_what_is_wrong_is_said(tmp_path, cache):
    reviews = Dataset.from_dict(
        {"text": ["a"] * 4, "label": [0, 1, 2, 0]},
        features=Features({"text": Value("string"), "label": Value("int64")}),
    )
    data = pinned(tmp_path / "data" / "imdb", {}, train=reviews, test=reviews)
    with pytest.raises(DataError, match=r"row 2 of .*: label 2 is out of range 0\.\.1"):
        TASKS.get("imdb")(data).load()
    data = pinned(tmp_path / "more" / "imdb", {}, train=reviews)
    with pytest.raises(DataError, match=r"has no split 'test'; it has \['train'\]"):
        TASKS.get("imdb")(data).load()
    data = pinned(tmp_path / "other" / "samsum", {}, train=reviews, validation=reviews, test=reviews)
    with pytest.raises(DataError, match="has no column 'dialogue'"):
        TASKS.get("samsum")(data).load()
    file = tmp_path / "data" / "imdb" / "hub.json"
    for revision in ("main", None, "abc"):
        file.write_text(json.dumps({"id": "stanfordnlp/imdb", "revision": revision}))
        with pytest.raises(DataError, match=r"hub\.json: revision = .* is not a commit of 40"):
            TASKS.get("imdb")(tmp_path / "data").load()
    file.write_text(json.dumps({"id": "someone/something"}))
    with pytest.raises(DataError, match="revision = None is not a commit"):
        TASKS.get("imdb")(tmp_path / "data").load()
    file.write_text("{")
    with pytest.raises(DataError, match=r"hub\.json: expected"):
        TASKS.get("imdb")(tmp_path / "data").load()
    assert left_over(cache) == []


def test_without_a_network_the_hub_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "imdb"
    folder.mkdir()
    (folder / "hub.json").write_text(json.dumps({"id": "stanfordnlp/imdb", "revision": "0" * 40}))
    with pytest.raises(DataError, match=r"hub\.json: stanfordnlp/imdb at 0{40} cannot be loaded"):
        TASKS.get("imdb")(tmp_path).load()
    (folder / "hub.json").write_text(json.dumps({"id": "stanfordnlp/imdb"}))
    with pytest.raises(DataError, match=rf"stanfordnlp/imdb at {REVISIONS['stanfordnlp/imdb']} cannot be loaded"):
        TASKS.get("imdb")(tmp_path).load()
    assert all(COMMIT.fullmatch(revision) for revision in REVISIONS.values())
