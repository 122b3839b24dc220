"""Networks of one's own: from a file, from a folder of transformers, their weights, and what is said of what does not fit."""

from __future__ import annotations

import json

import pytest
import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS, get_model
from mubench_ray.models.base import check_checkpoint, flos_per_sample
from mubench_ray.models.state_dict import read_weights
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trial import own_name
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial
from tests.tasks.conftest import cache  # noqa: F401 - a fixture
from tests.tasks.own_data import CLASSES, pictures, rows, sounds, table

NET = '''
"""A small network."""

from torch import nn


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.out = nn.Linear(16, classes)

    def forward(self, pictures):
        return self.out(self.body(pictures))


def make(num_classes, channels=3):
    return Net(channels, num_classes)


def heard(num_classes, samples):
    return nn.Sequential(nn.Linear(samples, 4), nn.ReLU(), nn.Linear(4, num_classes))


class Reader(nn.Module):
    def __init__(self, classes, vocabulary):
        super().__init__()
        self.table, self.out = nn.Embedding(vocabulary, 4), nn.Linear(4, classes)

    def forward(self, ids, attention_mask=None):
        return self.out(self.table(ids).mean(1))


def read(num_classes, vocabulary):
    return Reader(num_classes, vocabulary)


class Masked(Reader):
    def forward(self, ids, attention_mask):
        weights = attention_mask / attention_mask.sum(1, keepdim=True)
        return self.out((self.table(ids) * weights.unsqueeze(2)).sum(1))


def masked(num_classes, vocabulary):
    return Masked(num_classes, vocabulary)


def wrong(num_classes):
    return {}


def nameless(classes):
    return None
'''


@pytest.fixture
def net(tmp_path):
    """The file, and a function from a factory's name to the model."""
    path = tmp_path / "net.py"
    path.write_text(NET)
    return lambda factory: f"module:{path}:{factory}"


def made(name, **options):
    """A network of the module with fixed weights."""
    torch.manual_seed(0)
    return MODELS.get(name).made(TASKS.get("digits")())


def test_a_factory_serves_every_modality(net, tmp_path):
    tasks = {
        "make": f"image_folder:{pictures(tmp_path / 'pictures', 8)}",
        "heard": f"sound_folder:{sounds(tmp_path / 'sounds', 8)}",
        "read": f"text_table:{json.dumps({'path': str(table(tmp_path / 'in.csv', rows(30))), 'text': 'review', 'label': 'stars'})}",
    }
    for factory, task in tasks.items():
        model, opened = MODELS.get(net(factory)), TASKS.get(task)()
        splits = opened.load()
        columns = splits.train.take(torch.arange(5))
        network = model.build(opened)
        outputs = network(**model.encode(opened, columns))
        assert outputs.shape == (5, opened.classes)
        forward, training = flos_per_sample(opened, model)
        assert 0 < forward < training
    assert MODELS.get(net("make")).refusal(TASKS.get("samsum")) is not None


def test_a_factory_that_is_none_is_refused(net, tmp_path):
    digits = TASKS.get("digits")()
    for factory, said in (
        ("wrong", "returned dict, not a torch.nn.Module"),
        ("nameless", "takes no argument num_classes"),
    ):
        with pytest.raises(MubenchError, match=said):
            MODELS.get(net(factory)).build(digits)
    with pytest.raises(MubenchError, match=r"has no function 'mak'. Did you mean 'make'"):
        MODELS.get(net("mak"))
    with pytest.raises(MubenchError, match=r"say the file and the function"):
        MODELS.get("module:make")
    with pytest.raises(MubenchError, match=r"does not exist"):
        MODELS.get(f"module:{tmp_path / 'no.py'}:make")


def suite(model) -> dict:
    """Two trials of a model on few digits."""
    return {
        "name": "own", "tasks": {"name": "digits", "subset": 100}, "models": model, "methods": ["original", {"name": "ft", "epochs": 1}],
        "ratios": 10, "seeds": 42, "lrs": 1e-3, "training": {"epochs": 1},
    }  # fmt: skip


def test_a_network_that_cannot_read_the_task_is_refused_by_the_plan(net, tmp_path):
    """Each trial would fail of it, one after the other."""
    (tmp_path / "odd.py").write_text("from torch import nn\ndef flat(num_classes):\n    return nn.Flatten()\n")
    for model, said in (
        (net("read"), r"cannot read digits \(ids \(2, 1, 8, 8\)\): "),
        (f"module:{tmp_path / 'odd.py'}:flat", r"gives Tensor \(2, 64\) of 2"),
    ):
        with pytest.raises(MubenchError, match=said):
            make_plan(make_suite(suite(model)))


def test_its_content_enters_ids_and_its_place_does_not(net, tmp_path):
    plan = make_plan(make_suite(suite(net("make"))))
    [name] = {trial.model for trial in plan.trials.values()}
    assert (
        own_name(name).startswith("module:net.make@")
        and str(tmp_path) not in next(iter(plan.trials.values())).configuration
    )
    assert all(str(trial.versions["model"]).startswith("1:") for trial in plan.trials.values())
    other = tmp_path / "other"
    other.mkdir()
    (other / "net.py").write_text(NET)
    moved = make_plan(make_suite(suite(f"module:{other / 'net.py'}:make")))
    assert moved.trials.keys() == plan.trials.keys()
    (other / "next").mkdir()
    (other / "next" / "net.py").write_text(NET.replace("nn.ReLU()", "nn.GELU()"))
    edited = make_plan(make_suite(suite(f"module:{other / 'next' / 'net.py'}:make")))
    assert not edited.trials.keys() & plan.trials.keys()


WRAPPED = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
}


def same(ours, theirs) -> bool:
    """Whether two networks have the same tensors by name."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_state_dict_is_found_however_it_is_wrapped(wrap, net, tmp_path):
    network = made(net("make"))
    torch.save(WRAPPED[wrap](network.state_dict()), tmp_path / "weights.pth")
    model = get_model(net("make"), str(tmp_path / "weights.pth"))
    assert same(model.finished(TASKS.get("digits")()), network)
    assert model.found().count("; ") == (wrap != "bare")


def test_an_original_is_the_network_in_its_file(net, tmp_path):
    network = made(net("make"))
    path = tmp_path / "weights.pth"
    torch.save(WRAPPED["parallel"](network.state_dict()), path)
    plan = make_plan(make_suite(suite({"name": net("make"), "original": str(path)})))
    trial = next(trial for trial in plan.trials.values() if trial.method == "original")
    assert list(plan.found.values()) == ["weights.pth: read; 'module.' is taken off the names of its tensors"]
    store = ArtifactStore(tmp_path / "artifacts")
    row = run_trial(trial, store).row
    assert (row["status"], row["error"]) == ("ok", None)
    assert same(store.load(trial.original).load_into(made(net("make"))), network)


def test_what_does_not_fit_is_said_by_the_plan(net, tmp_path):
    state = made(net("make")).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(
        {
            **{k: v for k, v in state.items() if k != "out.bias"},
            "out.weight": torch.zeros(7, 16),
            "extra": torch.zeros(1),
        },
        path,
    )
    said = "of 10 classes.*lacks out.bias; it holds what the network has no place for: extra; it has other shapes: out.weight is 7 x 16 there, 10 x 16 here"
    with pytest.raises(MubenchError, match=said):
        make_plan(make_suite(suite({"name": net("make"), "original": str(path)})))
    # Training may start from a network whose head is another.
    torch.save({**state, "out.weight": torch.zeros(7, 16), "out.bias": torch.zeros(7)}, path)
    check_checkpoint(net("make"), str(path), TASKS.get("digits")())
    begun = get_model(net("make"), str(path)).initial(TASKS.get("digits")())
    assert torch.equal(begun.state_dict()["body.0.weight"], state["body.0.weight"]) and begun.out.out_features == 10
    torch.save({**state, "body.0.weight": torch.zeros(4, 3, 5, 5)}, path)
    with pytest.raises(MubenchError, match=r"body.0.weight is 4 x 3 x 5 x 5 there"):
        check_checkpoint(net("make"), str(path), TASKS.get("digits")())


class Owned:
    """What only running code could read."""


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": Owned()}, path)
    with pytest.raises(
        MubenchError, match=r"could only be read by running code.*torch.save\(network.state_dict\(\), PATH\)"
    ):
        read_weights(path)
    torch.save({"epoch": 3, "weights": {"a": torch.zeros(1)}}, path)
    with pytest.raises(MubenchError, match=r"holds no state dict, but a dict of 'epoch', 'weights'"):
        read_weights(path)
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(MubenchError, match=r"cannot be read as weights"):
        read_weights(path)
    torch.save({"a": torch.tensor([float("nan")])}, path)
    with pytest.raises(MubenchError, match=r"a is not finite everywhere"):
        read_weights(path)
    torch.save({"a": torch.zeros(1, dtype=torch.float16)}, path)
    assert read_weights(path).notes == ["kept in float16, computed in float32"]
    with pytest.raises(MubenchError, match=r"holds one file"):
        read_weights(tmp_path / "..")
    with pytest.raises(MubenchError, match=r"there is no such file"):
        read_weights(tmp_path / "no.pth")


def test_safetensors_are_read(net, tmp_path):
    from safetensors.torch import save_file

    network = made(net("make"))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    begun = get_model(net("make"), str(tmp_path / "model.safetensors")).finished(TASKS.get("digits")())
    assert torch.equal(begun.out.weight, network.out.weight)


@pytest.fixture
def folder(tmp_path):
    """A tiny ViT of transformers as ``save_pretrained`` leaves it, of the three classes of the pictures."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_labels=3,
    )
    config.id2label = {0: "cat", 1: "dog", 2: "eel"}
    config.label2id = {"cat": 0, "dog": 1, "eel": 2}
    network = ViTForImageClassification(config)
    network.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", network


def test_a_folder_of_transformers_is_built_started_from_and_taken(folder, tmp_path):
    path, network = folder
    task = TASKS.get(f"image_folder:{pictures(tmp_path / 'in', 8)}")()
    name = MODELS.canonical(f"hf:{path}")
    model = MODELS.get(name)
    assert own_name(name).startswith("hf:vit@")
    torch.manual_seed(1)
    random, begun, finished = (
        model.build(task),
        get_model(name, "published").initial(task),
        get_model(name, str(path)).finished(task),
    )
    weight = "classifier.weight"
    assert torch.equal(begun.state_dict()[weight], network.state_dict()[weight]) and torch.equal(
        finished.state_dict()[weight], network.state_dict()[weight]
    )
    assert random.config.hidden_size == 16 and not torch.equal(
        random.state_dict()[weight], network.state_dict()[weight]
    )
    assert not torch.equal(model.initial(task).state_dict()[weight], network.state_dict()[weight])
    pixels = model.encode(task, task.load().train.take(torch.arange(2)))["pixel_values"]
    assert pixels.shape == (2, 3, 8, 8)
    assert model.refusal(TASKS.get("imdb")) is not None and model.refusal(type(task)) is None
    (path / "config.json").write_text((path / "config.json").read_text().replace('"gelu"', '"relu"'))
    assert own_name(MODELS.canonical(f"hf:{path}")) != own_name(name)
    with pytest.raises(MubenchError, match=r"as a hub id it needs a commit"):
        MODELS.get("hf:google/vit")


def test_a_library_that_is_missing_is_said_in_one_line(monkeypatch):
    from importlib.util import find_spec

    for family in ("timm", "torchvision"):
        if find_spec(family) is None:
            with pytest.raises(
                MubenchError, match=rf"^model {family}:resnet18 needs {family}: pip install mubench_ray\[{family}\].$"
            ):
                MODELS.get(f"{family}:resnet18")


def gpt2(folder, labels):
    """A GPT-2 that classifies, with a tokenizer that pads, of which its config says nothing, and classes in the order of ``labels``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "<end>", *["a", "fine", "lovely", "sunny", "poor", "dull", "rainy", "day", "number"]]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    reader = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", eos_token="<end>"
    )
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=32,
        vocab_size=len(words),
        bos_token_id=2,
        eos_token_id=2,
        num_labels=len(labels),
    )
    config.id2label = dict(enumerate(labels))
    network = GPT2ForSequenceClassification(config).eval()
    for part in (network, reader):
        part.save_pretrained(folder)
    return network, reader


def test_a_head_of_any_name_is_put_into_the_task_s_order_and_the_last_token_is_no_padding(tmp_path):
    told = {"path": str(table(tmp_path / "t.csv", rows(30))), "text": "review", "label": "stars", "split": "part"}
    task = TASKS.get(TASKS.canonical(f"text_table:{json.dumps(told)}"))()
    assert task.class_names == ("bad", "good")
    network, reader = gpt2(tmp_path / "g", ("good", "bad"))
    model = get_model(MODELS.canonical(f"hf:{tmp_path / 'g'}"), str(tmp_path / "g"))
    read = task.load().train
    with torch.no_grad():
        ours = model.finished(task).eval()(**model.encode(task, read.columns)).logits
        theirs = [
            network(**reader(task.texts.content[int(n)], return_tensors="pt")).logits[0] for n in read.columns["text"]
        ]
    assert torch.allclose(ours, torch.stack(theirs)[:, [1, 0]], atol=1e-5)
    gpt2(tmp_path / "other", ("x", "y"))
    other = get_model(MODELS.canonical(f"hf:{tmp_path / 'other'}"), str(tmp_path / "other"))
    with pytest.raises(MubenchError, match=r"no network trained on this task"):
        other.check(task, finished=True)


def test_a_network_that_needs_the_mask_is_given_it_and_its_weights_alone_are_no_original(net, tmp_path):
    """Whatever tokenizer it was trained with, the one that is trained here numbers other pieces."""
    told = {"path": str(table(tmp_path / "t.csv", rows(30))), "text": "review", "label": "stars", "split": "part"}
    task = TASKS.get(TASKS.canonical(f"text_table:{json.dumps(told)}"))()
    model = MODELS.get(MODELS.canonical(net("masked")))
    model.tried(task)
    read = task.load().train
    assert model.encode(task, read.columns).keys() == {"ids", "attention_mask"}
    path = tmp_path / "x.pth"
    torch.save(model.build(task).state_dict(), path)
    with pytest.raises(MubenchError, match="needs the tokenizer that it was trained with"):
        check_checkpoint(model.name, str(path), task, finished=True)


def test_the_plan_says_what_a_file_of_weights_does_not(net, tmp_path):
    root = pictures(tmp_path / "pets", 10)
    model = MODELS.get(MODELS.canonical(net("make")))

    def said(**options):
        told = json.dumps({"path": str(root), "size": 8, **options})
        task = TASKS.get(TASKS.canonical(f"image_folder:{told}"))()
        torch.save(model.build(task).state_dict(), tmp_path / "x.pth")
        return check_checkpoint(model.name, str(tmp_path / "x.pth"), task, finished=True)

    first, second = said()
    assert f"order ({', '.join(CLASSES)})" in first and "say mean and std" in second
    assert len(said(mean=[0.5] * 3, std=[0.25] * 3)) == 1


def test_weights_of_a_folder_that_training_starts_from_are_a_part_of_ids(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    network = ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=10))

    def ids():
        network.save_pretrained(tmp_path / "vit")
        plan = make_plan(make_suite(suite({"name": f"hf:{tmp_path / 'vit'}", "pretrained": True})))
        return plan.trials.keys() | plan.recipes.keys()

    before = ids()
    assert ids() == before
    network.classifier.bias.data.fill_(0.5)
    assert not ids() & before
