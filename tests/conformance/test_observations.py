"""The suite of observations over every one of them, and observations that it must find out."""

import re

import numpy as np
import pytest
import torch

from mubench_ray.conformance import check
from mubench_ray.observations import OBSERVATIONS, Observation, observation
from tests.conformance.conftest import faults


@pytest.mark.parametrize("name", OBSERVATIONS.names())
def test_every_observation_conforms(name):
    found = check(name)["observations", name]
    assert faults(found) == {} and len(found) >= 4


class Faulty(Observation):
    """Sum of the weights of the head; each subclass has one fault."""

    gives = ("head",)
    costs = "nothing"

    def observe(self, seen):
        return {"head": np.array([seen.ctx.network.head.weight.sum().item()])}


class Sound(Faulty):
    """No fault at all."""


class Moves(Faulty):
    """Trains f_U itself."""

    def observe(self, seen):
        seen.ctx.network.head.weight.data.add_(1.0)
        return super().observe(seen)


class Turns(Faulty):
    """Leaves f_U in eval mode."""

    def observe(self, seen):
        seen.ctx.network.eval()
        return super().observe(seen)


class More(Faulty):
    """Gives what it does not say."""

    def observe(self, seen):
        return {**super().observe(seen), "tail": np.zeros(1)}


class Draws(Faulty):
    """Draws from the global stream."""

    def observe(self, seen):
        return {"head": torch.rand(1).numpy()}


class Costless(Faulty):
    """Says nothing of its costs."""

    costs = ""


class Needy(Faulty):
    """Needs a network that there is not."""

    needs = ("twin",)


class Elsewhere(Faulty):
    """Reads a set that there is not."""

    reads = ("forgotten",)


class Reads(Faulty):
    """Reads a set without saying so."""

    def observe(self, seen):
        return {"head": np.array([len(seen.sets["test"])])}


class Takes(Faulty):
    """Takes a network without saying so, which no plan makes for it."""

    def observe(self, seen):
        return {"head": np.array([seen.network("retrain").head.weight.sum().item()])}


class Silent(Faulty):
    """Says more than it gives."""

    gives = ("head", "tail")


class Namesake(Faulty):
    """Gives what the metrics of a trial read."""

    gives = ("head", "forget_loss")

    def observe(self, seen):
        return {**super().observe(seen), "forget_loss": np.zeros(1)}


class Freezes(Faulty):
    """Leaves f_U frozen."""

    def observe(self, seen):
        seen.ctx.network.requires_grad_(False)
        return super().observe(seen)


class Blanks(Faulty):
    """Changes pictures that all trials of the process share."""

    def observe(self, seen):
        seen.splits.test.columns["image"].zero_()
        return super().observe(seen)


class Leaves(Faulty):
    """Ends the process."""

    def observe(self, seen):
        raise SystemExit("no licence")


FAULTS = {
    Moves: ("leaves f_U as it is", "head.weight is changed"),
    Turns: ("leaves f_U as it is", "train or eval mode"),
    More: ("gives what it says and no others", "'tail' is not in gives"),
    Draws: ("same network, same arrays", "head differs"),
    Costless: ("has a docstring, a title and its costs", "costs"),
    Needy: ("its needs, what it reads and its version are ones", "'twin'"),
    Elsewhere: ("its needs, what it reads and its version are ones", "reads 'forgotten'"),
    Reads: ("runs", "it reads 'test', which its"),
    Takes: ("runs", "it takes the network 'retrain', which its"),
    Silent: ("gives what it says and no others", "'tail' is not given"),
    Namesake: ("gives what it says and no others", "'forget_loss' is what every trial is looked at for"),
    Freezes: ("leaves f_U as it is", "what takes gradients"),
    Blanks: ("leaves the data as they are", "'image' of test is changed"),
    Leaves: ("runs", "SystemExit: no licence"),
}


@pytest.mark.parametrize("cls", FAULTS)
def test_a_fault_is_found_and_told(cls, apart):
    name, told = FAULTS[cls]
    observation("faulty_one", title="Faulty")(cls)
    wrong = faults(check("faulty_one")["observations", "faulty_one"])
    assert name in wrong and re.search(told, wrong[name]), wrong


def test_a_sound_observation_has_none(apart):
    observation("sound", title="Sound")(Sound)
    assert faults(check("sound")["observations", "sound"]) == {}
