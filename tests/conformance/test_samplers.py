"""The suite of samplers over every one of them, and samplers that it must find out."""

import random
import re

import numpy as np
import pytest
import torch
from pydantic import Field

from mubench_ray.conformance import check
from mubench_ray.forget import SAMPLERS, Sampler, Scored, sampler
from tests.conformance.conftest import faults


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_conforms(name):
    found = check(name)["samplers", name]
    assert faults(found) == {} and len(found) >= 9


def permuted(train, draw):
    return torch.from_numpy(draw.rng.permutation(len(train)))


class Sound(Sampler):
    """A permutation; each subclass has one fault."""

    def order(self, train, draw):
        return permuted(train, draw)


class Numbered(Sound):
    """Its version is a text."""

    version = "2"


class Refused(Sound):
    """Its own default is none that it takes."""

    times: float = Field(-1.0, gt=0)


class Lenient(Sound):
    """Takes whatever it is given."""

    @classmethod
    def configure(cls, given):
        return cls()


class Mute(Sound):
    """Lets a missing option pass."""

    favoured: int

    @classmethod
    def configure(cls, given):
        return super().configure({"favoured": 1, **given})


class Unknowable(Sound):
    """Nobody knows a value that it takes."""

    weights: dict[str, float] = Field(min_length=1)


class Peeks(Sound):
    """Reads scores that it is not given."""

    def order(self, train, draw):
        return torch.from_numpy(np.argsort(draw.scores[0]["loss"]))


class Groups(Sound):
    """Takes it that all data has superclasses."""

    def order(self, train, draw):
        return torch.argsort(train.groups["superclass"] + torch.from_numpy(draw.rng.random(len(train))))


class Floats(Sound):
    """Gives positions as floats."""

    def order(self, train, draw):
        return permuted(train, draw).double()


class Sources(Sound):
    """Gives places in the data set's own list."""

    def order(self, train, draw):
        return train.source_index[permuted(train, draw)]


class Twice(Sound):
    """May draw an example again."""

    def order(self, train, draw):
        return torch.from_numpy(draw.rng.integers(0, len(train), len(train)))


class Nothing(Sound):
    """Finds nothing."""

    def order(self, train, draw):
        return permuted(train, draw)[:0]


class Raises(Sound):
    """Divides by nought."""

    def order(self, train, draw):
        return permuted(train, draw)[1 // 0 :]


class Leaves(Sound):
    """Ends the process."""

    def order(self, train, draw):
        raise SystemExit("no licence")


class Whole(Sound):
    """All of class 1, with a share that is not its own."""

    random = property(lambda self: False)
    whole = property(lambda self: True)

    def order(self, train, draw):
        return (train.labels == 1).nonzero().flatten()

    def shares(self, train):
        return [30.0]


class Inexact(Sound):
    """One example fewer than it is asked for."""

    def size(self, order, train, draw):
        return super().size(order, train, draw) - 1


class Loose(Sound):
    """Of another ratio another order."""

    def order(self, train, draw):
        return permuted(train, draw).roll(-round(draw.ratio))


class Remembers(Sound):
    """Its second draw is another."""

    def order(self, train, draw):
        object.__setattr__(self, "_drawn", getattr(self, "_drawn", 0) + 1)
        return permuted(train, draw).roll(self._drawn)


class Deaf(Sound):
    """Does not listen to the seed."""

    def order(self, train, draw):
        return torch.arange(len(train))


class Denies(Sound):
    """Draws at random and says that it does not."""

    random = property(lambda self: False)


class OfTorch(Sound):
    """Draws from torch's stream."""

    def order(self, train, draw):
        return torch.randperm(len(train))


class Seeds(Sound):
    """Sows the stream of all others."""

    def order(self, train, draw):
        random.seed(0)
        return permuted(train, draw)


class Spoils(Sound):
    """Clears the labels."""

    def order(self, train, draw):
        train.labels.zero_()
        return permuted(train, draw)


class SpoilsScores(Scored):
    """Sorts the losses where they lie."""

    def order(self, train, draw):
        draw.scores[0]["loss"].sort()
        return torch.arange(len(train))


OPTIONS = "takes its defaults, asks for what has none, refuses the rest"
ORDER = "orders positions of D, each at most once"
SETS = "draws as many as the ratio says, a smaller ratio's from a larger's"
FAULTS = {
    Numbered: ("its version and exact are ones", "version is '2'"),
    Refused: (OPTIONS, r"its own default is refused: .*times = -1\.0"),
    Lenient: (OPTIONS, r"\{'no_such_option': 1\} is accepted"),
    Mute: (OPTIONS, r"\{\} is accepted"),
    Unknowable: ("runs", "no values are known for weights"),
    Peeks: ("asks for what it reads, scores and groups", "derive it from Scored"),
    Groups: ("asks for what it reads, scores and groups", "KeyError: 'superclass'"),
    Floats: (ORDER, r"torch\.float64 \(240,\), expected a tensor int64"),
    Sources: (ORDER, r"positions 1\.\.299, expected 0\.\.239"),
    Twice: (ORDER, r"\d+ positions come again"),
    Nothing: (ORDER, "it orders nothing"),
    Raises: ("runs", "ZeroDivisionError"),
    Leaves: ("runs", "SystemExit: no licence"),
    Whole: ("its shares are those of what the data gives", "shares says 30 %, the order holds 25 %"),
    Inexact: (SETS, "ratio 10 of 240 are 23, expected 24: say exact = False"),
    Loose: (SETS, r"\d+ of the 24 of ratio 10 are not in ratio 20"),
    Remembers: ("same seed, same order, whatever was drawn before", "another after other draws"),
    Deaf: ("another seed, another set, unless it draws nothing at random", "draw the same set, and random"),
    Denies: ("another seed, another set, unless it draws nothing at random", "draw different sets, and random"),
    OfTorch: ("draws from its own generator alone", "depends on more than draw.rng"),
    Seeds: ("draws from its own generator alone", "or seeds, the global stream"),
    Spoils: ("leaves examples and scores as they are", "'labels' is changed"),
    SpoilsScores: ("leaves examples and scores as they are", "'loss of scores' is changed"),
}


@pytest.mark.parametrize("cls", FAULTS)
def test_a_fault_is_found_and_told(cls, apart):
    name, told = FAULTS[cls]
    sampler("faulty", title="Faulty")(cls)
    wrong = faults(check("faulty")["samplers", "faulty"])
    assert set(wrong) == {name} and re.search(told, wrong[name]), wrong


def test_a_fault_of_a_switch_alone_is_found(apart):
    @sampler("switched", title="Switched")
    class Switched(Sound):
        """Sound unless ``sorted``."""

        sorted: bool = False

        def order(self, train, draw):
            return torch.arange(len(train)) if self.sorted else permuted(train, draw)

    wrong = faults(check("switched")["samplers", "switched"])
    assert [detail.split(":")[0] for detail in wrong.values()] == ["sorted = True"]


def test_words_are_asked_for(apart):
    @sampler("wordless", title=" ")
    class Wordless(Sampler):
        def order(self, train, draw):
            return permuted(train, draw)

    assert faults(check("wordless")["samplers", "wordless"]) == {"has a docstring and a title": "docstring; title"}


def test_a_sound_sampler_has_none(apart):
    sampler("sound", title="Sound")(Sound)
    assert faults(check("sound")["samplers", "sound"]) == {}
