"""The suite of models over every one of them, and models that it must find out."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from mubench_ray.conformance import check, models
from mubench_ray.models import MODELS, ImageModel, register
from mubench_ray.models.cnn import SmallCNN
from tests.conformance.conftest import faults


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_conforms(name, monkeypatch):
    if MODELS.get(name).family == "stable-diffusion":
        pytest.importorskip("diffusers")
    # Larger ones take tens of seconds here; `mubench check` builds them.
    monkeypatch.setattr(models, "LARGE", 8_000_000)
    found = check(name)["models", name]
    assert faults(found) == {} and len(found) >= 6


class Faulty(ImageModel):
    """A small network; each subclass has one fault."""

    family, citation = "faulty", "a test"

    def build(self, task):
        return SmallCNN(task.channels, task.classes, 4)


class Sound(Faulty):
    """No fault at all."""


class Grabs(Faulty):
    """Makes its weights on the CPU, whatever device is asked for."""

    def build(self, task):
        with torch.device("cpu"):
            return super().build(task)


class Drifts(Faulty):
    """Draws its weights past the seed."""

    def build(self, task):
        network = super().build(task)
        if not network.head.weight.is_meta:
            network.head.weight.data.normal_(generator=Drifts.generator)
        return network

    generator = torch.Generator().manual_seed(0)


class Fixed(Faulty):
    """The same weights under any seed."""

    def build(self, task):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().build(task)


class Headless(Faulty):
    """A head for another number of classes."""

    def build(self, task):
        return SmallCNN(task.channels, 3, 4)


class Rolls(SmallCNN):
    def forward(self, pixel_values):
        return super().forward(pixel_values) * (1 + torch.rand(()))


class Random(Faulty):
    """Draws in eval mode too."""

    def build(self, task):
        return Rolls(task.channels, task.classes, 4)


class Mixes(SmallCNN):
    def forward(self, pixel_values):
        return super().forward(pixel_values - pixel_values.mean(0))


class Mixing(Faulty):
    """Looks at the whole batch."""

    def build(self, task):
        return Mixes(task.channels, task.classes, 4)


class Hidden(SmallCNN):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.extra = [nn.Linear(sizes[1], sizes[1])]  # a plain list: no parameter of the network

    def forward(self, pixel_values):
        return self.extra[0](super().forward(pixel_values))


class Hiding(Faulty):
    """Keeps a layer where saving does not see it."""

    def build(self, task):
        return Hidden(task.channels, task.classes, 4)


class Frozen(Faulty):
    """Nothing in it trains."""

    def build(self, task):
        network = super().build(task)
        network.forward = torch.no_grad()(network.forward)
        return network


class Takes(Faulty):
    """Takes every task there is."""

    def refusal(self, task):
        return None


class Softmax(Faulty):
    """Gives probabilities."""

    def build(self, task):
        network = super().build(task)
        network.head = nn.Sequential(network.head, nn.Softmax(-1))
        return network


class Noisy(Faulty):
    """Draws from numpy while it is trained."""

    def build(self, task):
        network = super().build(task)
        network.head.register_forward_hook(lambda head, _, out: out + np.random.rand() * head.training)
        return network


class Shrugs(Faulty):
    """Refuses without a reason."""

    def refusal(self, task):
        return super().refusal(task) and ""


class Misspelt(Faulty):
    """Wants training of a kind that there is not."""

    training = {"learning_rate": 0.1}


class Nowhere(Faulty):
    """A kind of task that there is not."""

    kinds = ("classification", "regression")


FAULTS = {
    Grabs: ("digits: is built on the meta device, where it takes no memory", "stages.0.0.weight is not"),
    Drifts: ("digits: same seed, same weights", "head.weight differs"),
    Fixed: ("digits: another seed, other weights", "all weights are the same"),
    Softmax: ("digits: gives outputs for every example", "probabilities, expected logits"),
    Noisy: ("digits: draws from torch alone in train mode", "same torch seed, other outputs"),
    Headless: ("digits: gives outputs for every example", r"\(4, 3\), expected logits \(4, 10\)"),
    Random: ("digits: gives the same outputs again in eval mode", ""),
    Mixing: ("digits: an example's outputs do not depend on its batch in eval mode", ""),
    Hiding: ("digits: its weights survive saving", ""),
    Frozen: ("digits: runs", "does not require grad"),
    Takes: ("refuses what it does not take, with a reason", "takes ddi, which is text"),
    Shrugs: ("refuses what it does not take, with a reason", "'' is no reason"),
    Misspelt: ("its training and version are ones", "'learning_rate', which Training has not"),
    Nowhere: ("takes a task of every kind that it names", "no task of image and regression"),
}


@pytest.mark.parametrize("cls", FAULTS)
def test_a_fault_is_found_and_told(cls, apart):
    name, told = FAULTS[cls]
    register("faulty", cls())
    wrong = faults(check("faulty")["models", "faulty"])
    assert name in wrong and re.search(told, wrong[name]), wrong


def test_a_sound_model_has_none(apart):
    register("sound", Sound())
    assert faults(check("sound")["models", "sound"]) == {}


def test_a_large_model_is_not_built_in_memory(apart, monkeypatch):
    monkeypatch.setattr(models, "LARGE", 100)
    register("sound", Sound())
    (told,) = [finding for finding in check("sound")["models", "sound"] if "in memory" in finding.name]
    assert told.ok and "parameters" in told.name
