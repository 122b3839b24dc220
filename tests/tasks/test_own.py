"""Tasks on data of one's own: what is found in it, what it counts by, and what is said of what does not fit."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mubench_ray.conformance import check
from mubench_ray.engine.plan import check_contamination
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trial import own_name
from tests.tasks.own_data import CLASSES, clips, pictures, rows, sounds, table


def opened(family: str, **options):
    """The name and the class of a task with these options."""
    name = TASKS.canonical(f"{family}:{json.dumps(options)}")
    return name, TASKS.get(name)


def suite(**task) -> dict:
    """A suite with one task."""
    return {"name": "own", "tasks": task, "models": "cnn-small", "methods": "original", "ratios": 10, "seeds": 42}


FAMILIES = {
    "image_folder": lambda root: {"path": str(pictures(root / "in", {"train": 12, "test": 4}))},
    "sound_folder": lambda root: {"path": str(sounds(root / "in", 12))},
    "video_folder": lambda root: {"path": str(clips(root / "in", 12)), "frames": 2},
    "text_table": lambda root: {
        "path": str(table(root / "in.csv", rows(60))),
        "text": "review",
        "label": "stars",
        "split": "part",
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_conforms_like_any_task(family, tmp_path):
    name, task = opened(family, **FAMILIES[family](tmp_path))
    findings = check(name)["tasks", name]
    assert [finding for finding in findings if not finding.ok] == [] and len(findings) > 15
    assert task.class_names == (CLASSES if family != "text_table" else ("bad", "good"))
    assert str(task.classes) in task.found() and task.name == own_name(name)


def test_what_is_found_is_what_lies_there(tmp_path):
    root = pictures(tmp_path / "in", {"train": 12, "val": 3, "test": 4})
    _, task = opened("image_folder", path=str(root))
    splits = task().load()
    assert (task.size, task.channels, task.train_size) == (10, 3, 36)  # the shorter sides
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [36, 9, 12]
    pixels = np.asarray(Image.open(root / "train" / "dog" / "002.png").resize((10, 10), Image.Resampling.BILINEAR))
    row = (splits.train.source_index == 14).nonzero().item()  # of 12 a class, in order of class and name
    assert (splits.train.take(torch.tensor([row]))["image"][0].permute(1, 2, 0).numpy() == pixels).all()
    every = splits.train.take(torch.arange(36))["image"].double() / 255
    assert task.mean == pytest.approx(every.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert task.std == pytest.approx(every.std((0, 2, 3), correction=0).tolist(), abs=1e-4)


def test_it_counts_by_its_content_and_not_by_its_place(tmp_path):
    here, there = pictures(tmp_path / "a" / "pets", 8), tmp_path / "b" / "pets"
    shutil.copytree(here, there)
    names = [opened("image_folder", path=str(each))[0] for each in (here, there)]
    assert names[0] != names[1] and own_name(names[0]) == own_name(names[1])
    Image.new("RGB", (12, 10), (1, 2, 3)).save(there / "cat" / "000.png")
    other = opened("image_folder", path=str(there))[0]
    assert own_name(other) != own_name(names[0])
    assert own_name(opened("image_folder", path=str(here), size=8)[0]) not in map(own_name, (names[0], other))
    # What was planned is not what lies there now.
    TASKS._opened.clear()
    with pytest.raises(MubenchError, match=r"it is other data than what was planned"):
        TASKS.get(names[1])
    assert TASKS.get(names[0]).classes == 3


def test_ids_and_rows_follow(tmp_path):
    from mubench_ray.engine.plan import make_plan, split_name

    here, there = pictures(tmp_path / "a" / "pets", 8), tmp_path / "b" / "pets"
    shutil.copytree(here, there)
    plans = [make_plan(make_suite(suite(name="image_folder", path=str(each)))) for each in (here, there)]
    assert plans[0].trials.keys() == plans[1].trials.keys() and plans[0].recipes.keys() == plans[1].recipes.keys()
    [trial] = plans[0].trials.values()
    assert "/" not in split_name(trial) and str(tmp_path) not in trial.configuration
    Image.new("RGB", (12, 10), (1, 2, 3)).save(there / "cat" / "000.png")
    changed = make_plan(make_suite(suite(name="image_folder", path=str(there))))
    assert not changed.trials.keys() & plans[0].trials.keys()
    two = suite(name="x") | {"tasks": [{"name": "image_folder", "path": str(here), "size": size} for size in (8, 10)]}
    assert len(make_plan(make_suite(two)).trials) == 2


def test_splits_of_its_own_are_kept_and_others_drawn_by_stated_seeds(tmp_path):
    whole = pictures(tmp_path / "whole", 20)
    sizes = {}
    for seed in (123, 7):
        _, task = opened("image_folder", path=str(whole), split_seed=seed)
        splits = task().load()
        sizes[seed] = [len(part) for part in (splits.train, splits.validation, splits.test)]
        held = [set(part.source_index.tolist()) for part in (splits.train, splits.validation, splits.test)]
        assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2]) and len(set.union(*held)) == 60
        if seed == 123:
            first = held[2]
    assert sizes[123] == sizes[7] == [42, 6, 12] and held[2] != first
    assert "seed 7" in task.found()
    one = pictures(tmp_path / "one", {"train": 10, "val": 5})
    _, task = opened("image_folder", path=str(one))
    assert len(task().load().test) == 15 and "its one split beside training is D_Test" in task.notes


def test_what_cannot_be_read_is_left_out_counted_and_said(tmp_path):
    root = pictures(tmp_path / "in", {"train": 12, "test": 4})
    broken = root / "train" / "dog" / "003.png"
    broken.write_bytes(broken.read_bytes()[:80])
    _, task = opened("image_folder", path=str(root))
    assert "1 of 48 files cannot be read and are left out: 'train/dog/003.png'" in task.notes
    splits = task().load()
    assert len(splits.train) + len(splits.validation) == 35 and 15 not in splits.train.source_index
    lines = rows(40)
    lines[3]["review"], lines[7]["stars"] = "", " "
    _, task = opened("text_table", path=str(table(tmp_path / "in.jsonl", lines)), text="review", label="stars")
    assert "2 rows lack a text or a label and are left out" in task.notes


def test_an_index_names_files_labels_and_splits(tmp_path):
    pictures(tmp_path / "pool", 9)
    files = sorted((tmp_path / "pool").rglob("*.png"))
    lines = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{'test' if place % 3 == 0 else ''}"
        for place, path in enumerate(files)
    ]
    index = tmp_path / "index.csv"
    index.write_text("\ufeffpath, label,split\n" + "\n".join(lines) + "\n")
    _, task = opened("image_folder", path=str(index), channels=1)
    splits = task().load()
    assert (len(splits.test), task.channels) == (9, 1)
    grey = np.asarray(Image.open(files[1]).convert("L").resize((10, 10), Image.Resampling.BILINEAR), int)
    place = (splits.train.source_index == 0).nonzero()
    if len(place):
        assert abs(splits.train.take(place[0])["image"][0, 0].numpy().astype(int) - grey).max() <= 1
    index.write_text("path,labl\na.png,cat\n")
    with pytest.raises(MubenchError, match=r"has no 'label'. Did you mean 'labl'"):
        opened("image_folder", path=str(index))
    index.write_text("path,label\npool/cat/000.png,cat\npool/nowhere.png,cat\n")
    with pytest.raises(MubenchError, match=r"index.csv:3: there is no file 'pool/nowhere.png'"):
        opened("image_folder", path=str(index))
    index.write_text("path,label\n../../etc/passwd,cat\n")
    with pytest.raises(MubenchError, match=r"index.csv:2"):
        opened("image_folder", path=str(index))


def emptied(root):
    pictures(root, {"train": 6, "test": 2})
    for path in (root / "train" / "cat").iterdir():
        path.unlink()


def untaught(root):
    pictures(root, {"train": 6}, ("cat", "dog"))
    pictures(root, {"test": 2}, ("cat", "emu"))


WRONG = {
    "the class has no file": emptied,
    "D_Test has 'emu', of which D has no example": untaught,
    "no folder 'train'": lambda root: pictures(root, {"val": 2, "test": 2}),
    "holds no folders, one a class": lambda root: root.mkdir(),
    "there is no ": lambda root: None,
    "has the class 'cat' alone": lambda root: pictures(root, 6, ("cat",)),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_folder_that_does_not_fit_is_refused(said, tmp_path):
    WRONG[said](tmp_path / "in")
    with pytest.raises(SuiteError, match=said):
        make_suite(suite(name="image_folder", path=str(tmp_path / "in")))


def test_classes_and_files_are_in_torchvision_s_order(tmp_path):
    """As ImageFolder has them: names as text, and folders within a class entered."""
    root = pictures(tmp_path / "in", {"train": 12, "test": 2}, tuple(map(str, range(11))))
    (root / "train" / "10" / "more").mkdir()
    (root / "train" / "10" / "000.png").rename(root / "train" / "10" / "more" / "z.png")
    _, task = opened("image_folder", path=str(root))
    assert task.class_names == ("0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9")
    assert any("as torchvision has them" in note for note in task.notes) and task.card.sizes["test"] == 22
    listed = task.there(task.options)
    own = [str(path.relative_to(root)) for path, part in zip(listed.files, listed.parts) if part == "train"]
    expected = []
    for name in sorted(each.name for each in (root / "train").iterdir()):
        for top, _, files in sorted(os.walk(root / "train" / name)):
            expected += [os.path.relpath(os.path.join(top, file), root) for file in sorted(files)]
    assert own == expected and own[35] == "train/10/more/z.png"


def test_fewer_classes_in_d_test_are_said(tmp_path):
    pictures(tmp_path / "in", {"train": 12})
    pictures(tmp_path / "in", {"test": 2}, ("cat", "dog"))
    assert "D_Test has no example of 'eel'" in opened("image_folder", path=str(tmp_path / "in"))[1].notes


def test_options_are_those_of_the_task(tmp_path):
    root = str(pictures(tmp_path / "in", 6))
    for given, said in (
        ({"sise": 8}, "has no option 'sise'. Did you mean 'size'"),
        ({"size": 1}, "size = 1: "),
        ({"mean": [0.5, 0.5, 0.5]}, "mean and std go together"),
    ):
        with pytest.raises(SuiteError, match=said):
            make_suite(suite(name="image_folder", path=root, **given))
    with pytest.raises(SuiteError, match=r"needs its option path"):
        make_suite(suite(name="image_folder", size=8))
    with pytest.raises(SuiteError, match=r"unknown key"):
        make_suite(suite(name="digits", size=8))
    with pytest.raises(SuiteError, match=r"opens your own: say image_folder:PATH"):
        make_suite(suite(name="image_folder"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_of_any_kind_is_the_same_texts(kind, tmp_path):
    content = rows(30)
    content[0]["review"] = 'a "quoted", text\nof two lines'
    _, task = opened(
        "text_table", path=str(table(tmp_path / f"in.{kind}", content)), text="review", label="stars", split="part"
    )
    loaded = task()
    splits = loaded.load()
    assert (len(splits.test), len(splits.train) + len(splits.validation)) == (6, 24)
    texts = [loaded.texts.content[number] for number in splits.test.columns["text"].tolist()]
    assert texts == [row["review"] for row in content if row["part"] == "test"]
    assert [task.class_names[label] for label in splits.test.labels] == [
        row["stars"] for row in content if row["part"] == "test"
    ]


def test_a_missing_column_is_said_with_the_nearest(tmp_path):
    path = str(table(tmp_path / "in.csv", rows(20)))
    with pytest.raises(MubenchError, match=r"has no column 'reviews'.*Did you mean 'review'.*Say `text: NAME`"):
        opened("text_table", path=path, text="reviews", label="stars")
    (tmp_path / "in.csv").write_text("text,label\nfine,good\none,two,three\n")
    with pytest.raises(MubenchError, match=r"in.csv:3: has 3 cells"):
        opened("text_table", path=path)


def test_pairs_are_read_one_after_the_other(tmp_path):
    from mubench_ray.models import MODELS

    path = str(table(tmp_path / "in.csv", rows(40)))
    _, task = opened("text_table", path=path, text="review", pair="title", label="stars", max_length=24)
    loaded = task()
    splits = loaded.load()
    for name in ("bert-tiny", "distilbert-tiny"):
        model = MODELS.get(name)
        columns = splits.train.take(torch.arange(3))
        given = model.encode(loaded, columns)
        tokenizer = model.reader(loaded).tokenizer(loaded.texts)
        row = int(columns["text"][0])
        expected = tokenizer(loaded.texts.content[row], loaded.texts.second[row], return_token_type_ids=True)
        ids = given["input_ids"][0][given["attention_mask"][0].bool()].tolist()
        assert ids == expected["input_ids"] and tokenizer.decode(ids).count("[SEP]") == 2
        assert ("token_type_ids" in given) == (name == "bert-tiny")
        if name == "bert-tiny":
            assert given["token_type_ids"][0][: len(ids)].tolist() == expected["token_type_ids"]
            assert max(expected["token_type_ids"]) == 1
        with torch.no_grad():
            assert model.build(loaded).eval()(**given).logits.shape == (3, 2)


@pytest.fixture
def saved(tmp_path):
    """A data set of pictures with names of classes, and one of texts, as save_to_disk writes them."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
    from datasets import Image as ImageFeature

    root = pictures(tmp_path / "in", 10)
    files = sorted(root.rglob("*.png"))
    labels = [CLASSES.index(path.parent.name) for path in files]
    # Not in the order of the alphabet: the data set's own numbers stay.
    named = Features({"img": ImageFeature(), "kind": ClassLabel(names=["eel", "cat", "dog"])})
    made = Dataset.from_dict(
        {"img": [{"bytes": path.read_bytes(), "path": None} for path in files], "kind": labels}, features=named
    )
    kept, held = [place for place in range(30) if place % 3], range(0, 30, 3)
    DatasetDict({"train": made.select(kept), "validation": made.select(held)}).save_to_disk(str(tmp_path / "pictures"))
    texts = Features({"text": Value("string"), "label": Value("string")})
    Dataset.from_list(
        [{"text": row["review"], "label": row["stars"]} for row in rows(40)], features=texts
    ).save_to_disk(str(tmp_path / "texts"))
    return tmp_path


def test_a_saved_data_set_keeps_its_names_and_splits(saved):
    name, task = opened("hf_dataset", path=str(saved / "pictures"), image="img", label="kind")
    assert (task.class_names, task.modality, task.size) == (("eel", "cat", "dog"), "image", 10)
    assert task.card.sizes == {"train": 17, "validation": 3, "test": 10}
    assert [finding for finding in check(name)["tasks", name] if not finding.ok] == []
    name, task = opened("hf_dataset", path=str(saved / "texts"), text="text")
    assert (task.class_names, task.modality, sum(task.card.sizes.values())) == (("bad", "good"), "text", 40)
    assert [finding for finding in check(name)["tasks", name] if not finding.ok] == []
    for options, said in (
        ({"image": "image", "label": "kind"}, "has no column 'image'.*Did you mean 'img'"),
        ({"image": "img", "label": "kind", "train": "trian"}, "has no split 'trian'. Did you mean 'train'"),
        ({"label": "kind"}, "name the column of the inputs"),
    ):
        with pytest.raises(MubenchError, match=said):
            opened("hf_dataset", path=str(saved / "pictures"), **options)
    with pytest.raises(MubenchError, match=r"it needs a commit of 40 digits: path: someone/pets@COMMIT"):
        opened("hf_dataset", path="someone/pets", image="img")


def test_an_original_that_saw_all_of_training_needs_a_test_set_of_the_data_s_own(tmp_path):
    """D_Test drawn from training is no test of it; with a test folder D_V comes from that, and a D_V of its own is none of training."""
    weights = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(1)}, weights)

    def plan(root, **task):
        model = {"name": "cnn-small", "original": str(weights), "saw": "train"}
        told = suite(name="image_folder", path=str(root), size=8, **task) | {"models": model}
        (entry,) = make_suite(told).tasks
        check_contamination(make_suite(told), entry, make_suite(told).models[0])
        return TASKS.get(entry.name)

    alone = pictures(tmp_path / "alone", 20)
    for given in ({}, {"validation": "test-half"}):
        with pytest.raises(SuiteError, match="Give the data a test folder"):
            plan(alone, **given)
    tested = pictures(tmp_path / "tested", {"train": 10, "test": 6})
    with pytest.raises(SuiteError, match="validation: test-half"):
        plan(tested)
    halves = plan(tested, validation="test-half")
    assert halves.carves_validation and not halves.carves_test
    whole = plan(pictures(tmp_path / "whole", {"train": 10, "val": 4, "test": 6}))
    assert not whole.carves_validation and not whole.carves_test
