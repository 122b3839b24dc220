"""The text-to-image tasks' loaders."""

import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from tests.tasks.conftest import left_over
from tests.tasks.layouts import picture, write_emoji, write_tiny_imagenet


def test_emoji_are_captioned_with_their_names(tmp_path):
    write_emoji(tmp_path)
    task = TASKS.get("emoji_drawings")(tmp_path)
    splits = task.load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (38, 6, 4)
    rows = splits.train.take(torch.arange(len(splits.train)))
    for text, number, label in zip(rows["text"], rows["picture"], rows["labels"]):
        caption, shown = task.texts.content[text], task.pictures.take(number[None])[0]
        assert caption == f"an emoji of thing {number:02}"
        assert (shown[0].max() > shown[2].max()) == (label == 3) == bool(number % 2)
    with pytest.raises(DataError, match="are there only after load"):
        _ = TASKS.get("emoji_drawings")(tmp_path).pictures


def test_tiny_imagenet_is_captioned_with_its_names(tmp_path):
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    names = (root / "wnids.txt").read_text().split()
    (root / "words.txt").write_text("".join(f"{name}\tthing {i}, other name\n" for i, name in enumerate(sorted(names))))
    task = TASKS.get("tiny_imagenet_drawings")(tmp_path)
    splits = task.load()
    assert task.texts.content == [f"a photo of a thing {i}" for i in range(len(names))]
    for part in (splits.train, splits.validation, splits.test):
        assert task.pictures.take(part.columns["picture"][:2]).shape == (2, 3, 64, 64)
        assert torch.equal(part.columns["text"], part.labels)
    assert not set(splits.train.columns["picture"].tolist()) & set(splits.test.columns["picture"].tolist())
    (root / "words.txt").write_text("")
    with pytest.raises(DataError, match=r"words\.txt: has no name for"):
        TASKS.get("tiny_imagenet_drawings")(tmp_path).load()


def test_a_broken_picture_is_named(tmp_path, cache):
    write_emoji(tmp_path, 4)
    (tmp_path / "emoji-datasource-twitter" / "img" / "twitter" / "64" / "3.png").write_bytes(
        picture((8, 8), (0, 0, 0), "PNG")[:40]
    )
    with pytest.raises(DataError, match=r"3\.png: not a readable picture"):
        TASKS.get("emoji_drawings")(tmp_path).load()
    assert left_over(cache) == []
