"""Networks of timm and torchvision by name. For an environment with both, like ``test_torchvision.py``: its fixture names the operators that torchvision
lacks over a CPU build of torch before anything imports it, timm included."""

from importlib.util import find_spec

import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS, get_model
from mubench_ray.models.base import check_checkpoint, flos_per_sample
from mubench_ray.models.flos import count_flos
from mubench_ray.tasks import TASKS
from tests.models.test_torchvision import published  # noqa: F401 - a fixture
from tests.tasks.own_data import pictures

missing = [name for name in ("torchvision", "timm") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed")

NAMES = {
    "timm:resnet18": "fc",
    "torchvision:resnet18": "fc",
    "timm:mobilenetv3_small_100": "classifier",
    "torchvision:mobilenet_v2": "classifier.1",
}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_library_s_own_network(name, published):  # noqa: F811
    import timm

    family, architecture = name.split(":")
    task = TASKS.get("digits")()
    with torch.device("meta"):
        ours = MODELS.get(name).build(task).eval()
        makers = {"timm": timm.create_model, "torchvision": published.get_model}
        theirs = makers[family](architecture, num_classes=10).eval()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert MODELS.get(name).head(ours) == NAMES[name]
    with torch.no_grad():
        _, expected = count_flos(lambda: theirs(torch.zeros(2, 3, 8, 8, device="meta")))
    assert flos_per_sample(task, MODELS.get(name))[0] == expected / 2


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_a_pth_of_the_library_is_an_original_or_a_beginning(name, published, tmp_path):  # noqa: F811
    digits = TASKS.get("digits")()
    torch.manual_seed(0)
    network = MODELS.get(name).build(digits)
    state = network.state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    check_checkpoint(name, str(path), digits, finished=True)
    torch.manual_seed(1)
    loaded = get_model(name, str(path)).finished(digits)
    assert all(torch.equal(ours, state[key]) for key, ours in loaded.state_dict().items())
    columns = {
        "image": torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8),
        "labels": torch.zeros(2, dtype=torch.int64),
    }
    inputs = MODELS.get(name).encode(digits, columns)
    assert inputs["x"].shape == (2, 3, 8, 8) and torch.equal(inputs["x"][:, 0], inputs["x"][:, 2])
    torch.testing.assert_close(loaded.eval()(**inputs), network.eval()(inputs["x"]))
    # Its head of another number of classes: a beginning, and no original.
    torch.save(state | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, path)
    assert get_model(name, str(path)).initial(digits).fc.out_features == 10
    with pytest.raises(MubenchError, match=r"fc.weight is 7 x 512 there, 10 x 512 here"):
        check_checkpoint(name, str(path), digits, finished=True)


def test_a_transformer_of_one_size_is_given_it(published):  # noqa: F811
    for name in ("timm:vit_tiny_patch16_224", "torchvision:vit_b_16"):
        task, model = TASKS.get("digits")(), MODELS.get(name)
        with torch.device("meta"):
            pixels = model.encode(task, {key: column.to("meta") for key, column in task.blank(2).items()})["x"]
            assert pixels.shape == (2, 3, 224, 224) and model.build(task)(pixels).shape == (2, 10)


def test_an_unknown_name_is_said_with_the_nearest(published):  # noqa: F811
    for name, near in (("timm:resnet81", "resnet"), ("torchvision:resnet19", "resnet1")):
        with pytest.raises(MubenchError, match=f"Did you mean '{near}"):
            MODELS.get(name)


def test_a_folder_is_listed_as_image_folder_lists_it(published, tmp_path, monkeypatch):  # noqa: F811
    """A network trained on it by torchvision keeps its classes, and numbers of a forget list their files."""
    from torchvision.datasets import ImageFolder

    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    root = pictures(tmp_path / "in", {"train": 6, "test": 2}, ("b", "10", "2", "A"))
    (root / "train" / "b" / "more").mkdir()
    (root / "train" / "b" / "002.png").rename(root / "train" / "b" / "more" / "0.png")
    task = TASKS.get(f"image_folder:{root}")
    theirs = ImageFolder(root / "train")
    there = task.there(task.options)
    ours = [
        (str(path), task.class_names.index(label))
        for path, label, part in zip(there.files, there.labels, there.parts)
        if part == "train"
    ]
    assert ours == [(str(path), label) for path, label in theirs.samples] and list(task.class_names) == theirs.classes
