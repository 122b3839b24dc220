import json

import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.emoji_pairs import draw_pairs
from tests.tasks.layouts import picture

NAMES = ["ant", "bee", "cat", "dog", "elk"]


def write(root):
    folder = root / "emoji-datasource-twitter" / "img" / "twitter" / "64"
    folder.mkdir(parents=True)
    entries = []
    for number, name in enumerate(NAMES):
        (folder / f"{name}.png").write_bytes(picture((64, 64), (50 * number, 0, 0), "PNG"))
        entries.append(
            {"short_name": name, "image": f"{name}.png", "category": "Animals & Nature", "has_img_twitter": True}
        )
    entries.append({"short_name": "flag", "image": "flag.png", "category": "Flags", "has_img_twitter": True})
    (root / "emoji-datasource-twitter" / "emoji.json").write_text(json.dumps(entries))
    return folder


def test_sentences_are_true_of_their_pictures_as_the_label_says(tmp_path, monkeypatch):
    monkeypatch.setattr("mubench_ray.tasks.emoji_pairs.TRAIN", 200)
    monkeypatch.setattr("mubench_ray.tasks.emoji_pairs.TEST", 40)
    folder = write(tmp_path)
    task = TASKS.get("emoji_pairs")(tmp_path)
    splits = task.load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (170, 30, 40)
    rows = splits.train.take(torch.arange(170))
    shown = [[NAMES[int(image[0, 0, 0]) // 50] for image in pair] for pair in rows["images"]]
    for names, text, label in zip(shown, rows["text"], rows["labels"]):
        words = task.texts.content[text].split()
        assert (names[words[1] == "right"] == words[-1]) == bool(label)
    assert rows["labels"].float().mean() == 0.5
    (folder / "elk.png").unlink()
    with pytest.raises(DataError, match=r"lacks the picture .*elk\.png"):
        task.load()


def test_pairs_are_the_same_every_time_and_differ_between_parts():
    assert draw_pairs(NAMES, 30, "train") == draw_pairs(NAMES, 30, "train") != draw_pairs(NAMES, 30, "test")
    assert all(pair.left != pair.right for pair in draw_pairs(NAMES, 100, "train"))
