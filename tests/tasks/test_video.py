import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.moving_fashion import MOTIONS
from tests.tasks.conftest import left_over
from tests.tasks.layouts import write_ucf101


def test_ucf101_follows_the_lists_and_decodes_once(tmp_path, cache):
    pytest.importorskip("av")
    root = write_ucf101(tmp_path)
    splits = TASKS.get("ucf101")(tmp_path).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 2, 4)
    assert torch.equal(splits.train.groups["recording"], splits.train.labels)  # one a class here
    row = splits.test.take(torch.tensor([2]))
    assert row["labels"].item() == 1 and row["video"].shape == (1, 16, 3, 112, 112)
    shades = row["video"][0].float().mean((1, 2, 3))
    assert abs(shades[0] - 140) < 4 and abs(shades[-1] - 159) < 4 and (shades.diff() > -1).all()
    files = left_over(cache)
    (root / "UCF-101" / "Archery" / "v_Archery_g01_c03.avi").write_bytes(b"not a video")
    with pytest.raises(DataError, match=r"v_Archery_g01_c03\.avi: not a readable video"):
        TASKS.get("ucf101")(tmp_path).load()
    assert left_over(cache) == files


def test_ucf101_says_which_file_is_missing_or_malformed(tmp_path):
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (tmp_path / "UCF-101").mkdir()
    (lists / "classInd.txt").write_text("102 Archery\n")
    with pytest.raises(DataError, match=r"no trainlist01\.txt"):
        TASKS.get("ucf101")(tmp_path).load()
    (lists / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\n")
    with pytest.raises(DataError, match=r"classInd\.txt:1: class number '102' is out of range"):
        TASKS.get("ucf101")(tmp_path).load()
    (lists / "classInd.txt").write_text("1 Archery\n")
    with pytest.raises(DataError, match=r"v_Archery_g01_c01\.avi: cannot be read"):
        TASKS.get("ucf101")(tmp_path).load()


def test_items_move_as_their_class_says():
    task = TASKS.get("moving_fashion")()
    items = torch.zeros(20, 28, 28, dtype=torch.uint8)
    items[:, 3, 5] = 255
    clips = task.compose(items, "test")
    video = clips.columns["video"]
    assert video.shape == (20, 8, 1, 48, 48) and torch.equal(clips.labels, torch.arange(20) % 10)
    place = (video[:, :, 0] == 255).flatten(2).to(torch.uint8).argmax(-1)
    place = torch.stack([place // 48, place % 48], -1)
    for clip, label in enumerate(clips.labels):
        steps = (place[clip].diff(dim=0) + 24) % 48 - 24
        dy, dx, turn = MOTIONS[label]
        expected = torch.tensor([[dy, dx] if (frame // turn) % 2 == 0 else [-dy, -dx] for frame in range(7)])
        assert torch.equal(steps, expected)
    assert torch.equal(task.compose(items, "test").columns["video"], video)
