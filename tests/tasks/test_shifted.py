"""The shifted test sets, in their original layout: XSum and UCF101-DS (the others are tested with their tasks)."""

import json

import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.xsum import SPLITS
from tests.tasks.layouts import write_samsum, write_ucf101, write_video, write_xsum


def test_xsum_is_the_shifted_set_of_samsum(tmp_path):
    write_samsum(tmp_path / "samsum")
    assert TASKS.get("samsum")(tmp_path).load().shifted == {}
    write_xsum(tmp_path / "xsum", 3)
    task = TASKS.get("samsum")(tmp_path)
    splits = task.load()
    rows = splits.shifted["xsum"].take(torch.arange(3))
    assert tuple(splits.shifted) == task.shifted and len(splits.shifted["xsum"]) == 3
    assert task.references(rows) == [f"Sentence {i} says it all." for i in range(3)]
    article = task.texts.content[rows["text"][1]]
    assert article == "Body 1 begins.\nIt goes on." and "Share this with" not in article
    # Other targets are drawn from D alone, and D's own rows stay as they were.
    assert set(task._pool.tolist()) == set(splits.train.columns["target"].tolist())


def test_xsum_says_what_is_wrong(tmp_path):
    write_samsum(tmp_path / "samsum")
    root = write_xsum(tmp_path / "xsum", 2)
    (root / "bbc-summary-data" / "1001.summary").write_text("[SN]URL[SN]\nx\n[SN]TITLE[SN]\ny\n")
    with pytest.raises(DataError, match=r"1001\.summary: has no section \[SN\]RESTBODY"):
        TASKS.get("samsum")(tmp_path).load()
    (root / "bbc-summary-data" / "1001.summary").unlink()
    with pytest.raises(DataError, match=r"1001\.summary: cannot be read"):
        TASKS.get("samsum")(tmp_path).load()
    (root / SPLITS).write_text(json.dumps({"test": ["../../secret"]}))
    with pytest.raises(DataError, match=r"'\.\./\.\./secret' is not the number of an article"):
        TASKS.get("samsum")(tmp_path).load()
    (root / SPLITS).write_text("{}")
    with pytest.raises(DataError, match="expected an object with a list test"):
        TASKS.get("samsum")(tmp_path).load()


def test_ucf101_ds_is_the_shifted_set_of_ucf101(tmp_path):
    pytest.importorskip("av")
    write_ucf101(tmp_path)
    assert TASKS.get("ucf101")(tmp_path).load().shifted == {}
    shift = tmp_path / "UCF101-DS"
    for number in range(2):
        write_video(shift / "Archery" / f"clip{number}.avi", [40 + number] * 4)
    (shift / "Archery" / "notes.txt").write_text("not a clip")
    splits = TASKS.get("ucf101")(tmp_path).load()
    examples = splits.shifted["ucf101_ds"]
    assert examples.labels.tolist() == [1, 1] and examples.take(torch.tensor([0]))["video"].shape == (
        1,
        16,
        3,
        112,
        112,
    )
    (shift / "Juggling").mkdir()
    with pytest.raises(DataError, match="class 'Juggling' is not in"):
        TASKS.get("ucf101")(tmp_path).load()


def test_every_task_declares_the_shifted_sets_it_gives(tmp_path):
    declared = {name: task.shifted for name, task in TASKS if task.shifted}
    assert declared == {
        "cifar100": ("cifar100_c",),
        "imdb": ("rotten_tomatoes",),
        "imdb_128": ("rotten_tomatoes",),
        "movie_snippets": ("amazon", "tweets", "editorials"),
        "nlvr2": ("test2",),
        "nlvr2_3": ("test2",),
        "samsum": ("xsum",),
        "ucf101": ("ucf101_ds",),
    }
