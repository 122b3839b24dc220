import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from tests.tasks.conftest import left_over
from tests.tasks.layouts import write_nlvr2


def test_pairs_and_sentences_stay_together_and_a_pair_is_stored_once(tmp_path, cache):
    write_nlvr2(tmp_path / "nlvr2")
    task = TASKS.get("nlvr2")(tmp_path)
    splits = task.load()
    assert [len(part) for part in (splits.train, splits.validation, splits.test, splits.shifted["test2"])] == [12] * 4
    row = splits.train.select(torch.tensor([0, 9, 3])).take(torch.tensor([1]))
    assert task.texts.content[row["text"].item()] == "there are 9 dogs" and row["labels"].item() == 1
    assert row["images"].shape == (1, 2, 3, 384, 384)
    assert row["images"][0, :, :2, 100, 100].tolist() == [[40, 0], [40, 200]]
    stored = [path for path in left_over(cache) if "train" in path.name]
    assert stored[0].stat().st_size < 7 * 2 * 3 * 384 * 384
    blank = task.blank(1)
    assert {key: (value.shape, value.dtype) for key, value in blank.items()} == {
        key: (value.shape, value.dtype) for key, value in row.items()
    }


def test_malformed_lines_and_missing_pictures_are_named(tmp_path):
    root = write_nlvr2(tmp_path / "nlvr2")
    (root / "images" / "dev" / "dev-2-0-img1.png").unlink()
    with pytest.raises(DataError, match=r"dev-2-0-img1\.png: cannot be read"):
        TASKS.get("nlvr2")(tmp_path).load()
    path = root / "test1.json"
    path.write_text(path.read_text().replace('"label": "False"', '"label": "Maybe"', 1))
    (root / "dev.json").write_text((root / "dev.json").read_text().split("\n")[0] + "\n")
    with pytest.raises(DataError, match=r"test1\.json:2: .*Maybe"):
        TASKS.get("nlvr2")(tmp_path).load()
