"""Forget lists as files hold them, and the ones that MU-Bench released."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import DataError, MubenchError, SuiteError
from mubench_ray.forget import split_forget
from mubench_ray.forget.lists import is_mask, read_numbers, released
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.cifar import Cifar100
from mubench_ray.tasks.examples import Examples
from mubench_ray.trial import ForgetSet
from mubench_ray.trials.data import load_task, split_of

RELEASED = Path(__file__).parents[3] / "shared" / "data" / "mubench_forget_lists"
IDS = [40, 3, 17, 9, 28]
MASK = [0, 1, 0, 0, 1, 1]


def saved(folder, name, numbers):
    path = folder / name
    array = np.array(numbers)
    if name == "plain.npy":
        np.save(path, array)
    elif name == "bools.npy":
        np.save(path, array.astype(bool))
    elif name == "floats.npy":
        np.save(path, array.astype(float).reshape(-1, 1))
    elif name == "tensor.pt":
        torch.save(torch.tensor(numbers), path)
    elif name == "list.pth":
        torch.save({"indices": list(numbers), "seed": 42}, path)
    elif name == "list.json":
        path.write_text(json.dumps(numbers))
    elif name == "manifest.json":
        path.write_text(json.dumps({"sampler": "uniform", "indices": numbers, "options": {}}))
    elif name == "bare.csv":
        path.write_text("".join(f"{number}\n" for number in numbers))
    elif name == "titled.csv":
        path.write_text("\ufefflabel,Index\r\n" + "".join(f"cat,{number}\r\n" for number in numbers))
    elif name == "saved.txt":
        np.savetxt(path, array.astype(float))
    elif name == "bom.txt":
        path.write_text("\ufeff" + "".join(f"{number}\r\n" for number in numbers))
    else:
        raise KeyError(name)
    return path


FORMS = (
    "plain.npy",
    "floats.npy",
    "tensor.pt",
    "list.pth",
    "list.json",
    "manifest.json",
    "bare.csv",
    "titled.csv",
    "saved.txt",
    "bom.txt",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("numbers", [IDS, MASK], ids=["ids", "mask"])
def test_a_list_is_read_as_people_have_it(tmp_path, form, numbers):
    assert read_numbers(saved(tmp_path, form, numbers)) == numbers
    assert is_mask(MASK) and not is_mask(IDS)


def test_true_and_false_are_a_mask(tmp_path):
    path = tmp_path / "mask.csv"
    path.write_text("forget\nTrue\nFalse\ntrue\n")
    assert read_numbers(path) == [1, 0, 1]
    assert read_numbers(saved(tmp_path, "bools.npy", MASK)) == MASK
    torch.save(torch.tensor(MASK).bool(), tmp_path / "mask.pt")
    assert read_numbers(tmp_path / "mask.pt") == MASK


class Payload:
    """What an unpickler that runs code would make of a file."""

    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "3\n1.5\n", r"a\.txt:2: '1\.5' is not an id"),
        ("a.txt", "3\nnan\n", r"a\.txt:2: 'nan' is not an id"),
        ("a.txt", "3\n-4.0\n", r"a\.txt:2: id -4 is negative"),
        ("a.csv", "a,b\n1,2\n", "which column holds the ids. It has a, b"),
        ("a.csv", "1,2\n3,4\n", "which column holds the ids"),
        ("a.csv", "label,index\ncat\n", r"a\.csv:2: has 1 columns"),
        ("a.csv", "\n", "lists no ids"),
        ("a.json", "{", r"a\.json: cannot be read as \.json"),
        ("a.json", "7", "holds int; give a list"),
        ("a.json", '{"a": [1], "b": [2]}', "which key holds the ids. It has a, b"),
        ("a.json", '[1, "x"]', r"a\.json: entry 2: 'x' is not an id"),
        ("a.json", "[]", "lists no ids"),
        ("a.npy", np.zeros((2, 3), int), r"has shape \(2, 3\)"),
        ("a.npy", np.array([1, 2.5]), r"a\.npy: entry 2: '2\.5' is not an id"),
        ("a.npy", np.array([1, None]), r"a\.npy: cannot be read as \.npy"),
        ("a.npy", "text", r"a\.npy: cannot be read as \.npy"),
        ("a.pt", Payload(), r"a\.pt: cannot be read as \.pt"),
        ("a.pt", {"model": {}}, "which key holds the ids. It has none"),
        ("a.pt", "text", "holds str; give a tensor"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_with_its_place(tmp_path, name, content, said, capsys):
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(content, path)
    elif isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_numbers(path)
    assert capsys.readouterr().out == ""


def examples(size, drop=0):
    rows = torch.arange(size)[drop:]
    return Examples({"labels": rows % 10}, rows)


def drawn(path, ratio, size=1000, drop=0, listed=0):
    forget = ForgetSet(ratio=ratio, sampler="from_file", options={"path": str(path)})
    return split_forget(examples(size, drop), forget, listed=listed).forget.tolist()


def test_a_mask_is_of_the_right_length_alone(tmp_path):
    path = tmp_path / "mask.txt"

    def write(length):
        path.write_text("\n".join(str(int(row % 10 == 0)) for row in range(length)))

    write(1000)
    assert drawn(path, 10, listed=1000) == drawn(path, 10) == list(range(0, 1000, 10))
    for length, listed in ((900, 1000), (999, 1000), (1001, 1000), (900, 0), (1200, 0)):
        write(length)
        with pytest.raises(DataError, match=f"a mask of {length} entries does not fit a training list of"):
            drawn(path, 10, listed=listed)
    write(1010)
    assert len(drawn(path, 10)) == 100  # where D does not say where its list ends


def test_an_id_beyond_the_training_list_is_refused_where_its_length_is_known(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, [*range(99), 1000])))
    assert len(drawn(path, 9)) == 90
    with pytest.raises(DataError, match="id 1000 does not fit a training list of 1000 examples"):
        drawn(path, 9, listed=1000)


def test_digits_know_how_long_their_training_list_is():
    assert (
        load_task("digits", None, None)[1].listed == load_task("digits", 300, None)[1].listed == 0
    )  # D_Test was carved of it, too
    split = TASKS.get("digits")
    assert (
        split.size_of_d() == 1225
        and split.size_of_d(None, "test-half") == 1442
        and split.size_of_d(300, "test-half") == 300
    )


def test_a_folder_holds_lists_in_any_form(tmp_path):
    np.save(tmp_path / "5.npy", np.arange(50))
    (tmp_path / "10.0.json").write_text(json.dumps([*range(100)]))
    assert drawn(tmp_path, 5) == [*range(50)] and drawn(tmp_path, 10) == [*range(100)]
    (tmp_path / "5.0.txt").write_text("1\n")
    with pytest.raises(DataError, match="2 lists for ratio 5"):
        drawn(tmp_path, 5)


needs_lists = pytest.mark.skipif(
    not RELEASED.is_dir(), reason="MU-Bench's released lists are not beside the repository"
)
SUITE = {"name": "s", "models": "bert-tiny", "methods": ["ft"], "ratios": 1, "seeds": 1, "lrs": 1e-4}


@needs_lists
def test_every_released_list_is_known_in_whatever_file(tmp_path):
    files = [*RELEASED.rglob("*.txt")]
    assert len(files) == 18
    for file in files:
        known = released(numbers := read_numbers(file))
        assert known is not None and known.list == str(file.relative_to(RELEASED))
    np.save(tmp_path / "copy.npy", np.array(numbers))
    assert released(read_numbers(tmp_path / "copy.npy")) == known
    assert released(numbers[:-1]) is None


@needs_lists
@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("samsum.txt", "ddi", "MU-Bench's samsum.txt, which numbers the 14,732 training dialogues of SAMSum, not those of ddi: take it on samsum"),
        ("ddi.txt", "ddi", "numbers the 25,296 rows of BLURB's train.tsv, not those of ddi: take it on ddi_blurb"),
        ("cifar10.txt", "cifar100", "take it on cifar10"),
        ("speech_commands.txt", "speech_commands", "superb/ks"),
        ("ucf101", "cifar10", r"ucf101/1\.txt is MU-Bench's ucf101/1\.txt"),
    ],
)  # fmt: skip
def test_a_released_list_is_refused_on_data_that_it_does_not_number(name, task, said):
    model = {"ddi": "bert-tiny", "speech_commands": "wav2vec2-tiny"}.get(task, "resnet-tiny")
    content = SUITE | {"tasks": task, "models": model, "sampler": {"name": "from_file", "path": str(RELEASED / name)}}
    with pytest.raises(SuiteError, match=said):
        make_plan(make_suite(content))


@needs_lists
def test_a_released_list_is_taken_on_its_own_data_and_on_what_derives_from_it():
    class Mine(Cifar100):
        name = "mine"

    sampler = make_suite(
        SUITE | {"tasks": "cifar100", "sampler": {"name": "from_file", "path": str(RELEASED / "cifar100.txt")}}
    ).sampler.configured()
    for task in (TASKS.get("cifar100"), TASKS.get("cifar20"), Mine):
        assert sampler.refusal(task, 1.0) is None
    assert sampler.refusal(TASKS.get("cifar10"), 1.0)


@needs_lists
def test_a_trial_that_no_plan_has_checked_is_refused_too():
    content = SUITE | {"tasks": "digits", "models": "cnn-small", "ratios": 5}
    (trial,) = make_plan(make_suite(content)).trials.values()
    forget = ForgetSet(ratio=5, sampler="from_file", options={"path": str(RELEASED / "bioceleb.txt")})
    with pytest.raises(MubenchError, match=r"bioceleb\.txt, which numbers"):
        split_of(trial, forget, None)
