from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.forget import SAMPLERS, split_forget
from mubench_ray.tasks import Examples
from mubench_ray.trial import ForgetSet

RELEASED = Path(__file__).parents[3] / "shared" / "data" / "mubench_forget_lists"


def examples(size=1000, classes=10, source=None):
    labels = torch.arange(size) % classes
    return Examples({"labels": labels}, torch.arange(size) if source is None else source)


def forget(sampler="class_balanced", ratio=10, seed=42, **options):
    return ForgetSet(sampler=sampler, ratio=ratio, seed=seed, options=options)


@pytest.mark.parametrize("sampler", ["uniform", "class_balanced"])
@pytest.mark.parametrize("ratio", [1, 5, 10, 33.3])
def test_sets_are_disjoint_whole_and_of_the_right_size(sampler, ratio):
    split = split_forget(examples(), forget(sampler, ratio))
    assert len(split.forget) == round(10 * ratio)
    assert torch.equal(torch.cat([split.forget, split.retain]).sort().values, torch.arange(1000))
    assert split.manifest["indices"] == split.forget.tolist()


@pytest.mark.parametrize("sampler", ["uniform", "class_balanced"])
def test_larger_ratios_contain_smaller_ones(sampler):
    sets = [set(split_forget(examples(), forget(sampler, ratio)).forget.tolist()) for ratio in range(1, 11)]
    assert all(small < large for small, large in pairwise(sets))


@pytest.mark.parametrize("ratio", [1, 3, 7, 10])
def test_class_balanced_keeps_every_class_in_proportion(ratio):
    train = examples(997, classes=7)
    chosen = train.labels[split_forget(train, forget(ratio=ratio)).forget]
    for label, size in zip(*train.labels.unique(return_counts=True)):
        assert abs(int((chosen == label).sum()) - float(size) * ratio / 100) <= 1


def test_the_seed_decides_the_draw():
    one, same, other = (split_forget(examples(), forget(seed=seed)).manifest for seed in (1, 1, 2))
    assert one == same and one["sha256"] != other["sha256"]


def test_class_forgets_only_the_class():
    train = examples()
    split = split_forget(train, forget("class", ratio=10, classes=[3]))
    assert set(train.labels[split.forget].tolist()) == {3} and len(split.forget) == 100
    with pytest.raises(MubenchError, match="class 12 is not in the training set"):
        split_forget(train, forget("class", classes=[12]))


@pytest.mark.parametrize("ratio", [0.01, 99.99])
def test_an_empty_side_is_refused(ratio):
    with pytest.raises(MubenchError, match=r"empty forget set|leaves"):
        split_forget(examples(), forget(ratio=ratio))


@pytest.mark.parametrize("row", [-1, 1000])
def test_what_is_not_in_the_training_set_is_refused(row, monkeypatch):
    monkeypatch.setattr(
        SAMPLERS.get("uniform"),
        "order",
        lambda self, train, draw: torch.arange(100).index_fill(0, torch.tensor([5]), row),
    )
    with pytest.raises(MubenchError, match=f"uniform orders example {row}, and D has 0 to 999"):
        split_forget(examples(), forget("uniform"))


def write(tmp_path, lines, name="list.txt"):
    path = tmp_path / name
    path.write_text("\n".join(map(str, lines)) + "\n")
    return path


def test_a_list_is_taken_in_its_order(tmp_path):
    path = write(tmp_path, range(999, 899, -1))
    split = split_forget(examples(), forget("from_file", ratio=2, path=str(path)))
    assert split.forget.tolist() == list(range(980, 1000))


def test_ids_of_the_validation_set_are_passed_over(tmp_path):
    source = torch.tensor([i for i in range(1000) if i % 5])  # every fifth example was carved off for D_V
    train = examples(len(source), source=source)
    split = split_forget(train, forget("from_file", ratio=10, path=str(write(tmp_path, range(100)))))
    assert split.manifest["indices"] == [i for i in range(100) if i % 5]


def test_a_mask_is_the_whole_set_of_its_ratio(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for name, ratio in (("1.txt", 1), ("2.0.txt", 2)):
        write(folder, [int(i % (100 // ratio) == 0) for i in range(1000)], name)
    for ratio in (1, 2):
        split = split_forget(examples(), forget("from_file", ratio=ratio, path=str(folder)))
        assert split.forget.tolist() == [i for i in range(1000) if i % (100 // ratio) == 0]
    with pytest.raises(MubenchError, match="no list for ratio 3"):
        split_forget(examples(), forget("from_file", ratio=3, path=str(folder)))


@pytest.mark.parametrize("ratio", [1, 8, 12])
def test_a_mask_is_no_other_ratios_set(tmp_path, ratio):
    path = write(tmp_path, [int(i % 10 == 0) for i in range(1000)])
    with pytest.raises(MubenchError, match=f"marks 10 % of its lines: ratio {ratio} is another"):
        split_forget(examples(), forget("from_file", ratio=ratio, path=str(path)))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1", "x"], r"list.txt:2: 'x' is not an id"),
        (["1", "-4"], "list.txt:2: id -4 is negative"),
        ([7, 7, 8] * 40, "listed twice"),
        ([5, 123456], "id 123456 does not fit"),
        ([], "lists no ids"),
        (range(20), "covers 2.00%"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(tmp_path, lines, said):
    with pytest.raises(MubenchError, match=said):
        split_forget(examples(), forget("from_file", path=str(write(tmp_path, lines))))


@pytest.mark.skipif(not RELEASED.is_dir(), reason="MU-Bench's released lists are not beside the repository")
@pytest.mark.parametrize(("name", "size"), [("cifar10", 50_000), ("cifar100", 50_000), ("nlvr2", 86_373)])
def test_released_lists_are_read_as_they_are(name, size):
    path = RELEASED / f"{name}.txt"
    ids = [int(line) for line in path.read_text().split()]
    split = split_forget(examples(size), forget("from_file", ratio=1, path=str(path)))
    assert set(split.manifest["indices"]) == set(ids[: round(size / 100)])


@pytest.mark.skipif(not RELEASED.is_dir(), reason="MU-Bench's released lists are not beside the repository")
def test_released_masks_are_read_as_they_are():
    mask = [int(line) for line in (RELEASED / "ucf101" / "10.0.txt").read_text().split()]
    split = split_forget(examples(len(mask)), forget("from_file", ratio=10, path=str(RELEASED / "ucf101")))
    assert split.forget.tolist() == [i for i, chosen in enumerate(mask) if chosen]
