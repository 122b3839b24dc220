"""The suite of methods over every one of them, and methods that it must find out."""

import dataclasses
import random

import pytest
import torch

from mubench_ray.conformance import accepts, check_method
from mubench_ray.conformance.bench import Pictures
from mubench_ray.errors import MubenchError, UnknownName
from mubench_ray.methods import METHODS, Method, Phase, Taxonomy, method, uniform
from mubench_ray.training.data import Rows


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_conforms(name):
    findings = check_method(name)
    assert [f for f in findings if not f.ok] == []
    assert len(findings) >= 6


def test_an_unknown_method_is_named():
    with pytest.raises(UnknownName, match="salun"):
        check_method("salunn")


@dataclasses.dataclass(frozen=True)
class Bad(Method):
    """A method with a fault, made for a test that must find it."""

    taxonomy = Taxonomy(corrupts="gradient")
    on = "retain"
    epochs: float = uniform(1, 10, default=1)

    def loss(self, ctx, retain):
        return ctx.loss(retain)


class Forgets(Bad):
    """Reads D_F as if it were D_R, through rows of its own."""

    def phases(self, ctx):
        retain = ctx.data.rows("retain")
        ctx.data.sets["all"] = Rows(retain.examples, torch.arange(len(retain.examples)))
        return [Phase("all", "all", self.loss)]


class Peeks(Bad):
    """Loads the task's data itself and so could see D_Test."""

    def phases(self, ctx):
        ctx.task.load()
        return super().phases(ctx)


class Random(Bad):
    """Draws from the global random stream."""

    generator = random.Random(0)

    def loss(self, ctx, retain):
        return ctx.loss(retain) * (1 + self.generator.random())


class Idle(Bad):
    """Takes steps that change nothing."""

    def loss(self, ctx, retain):
        return 0 * ctx.loss(retain)


class Spender(Bad):
    """Lifts the cap that it should stop at."""

    def finish(self, ctx):
        ctx.meter.cap_flos = None
        for _ in range(50):
            ctx.error("retain")


class TrueLabels(Bad):
    """Relabels with the true label now and then."""

    on = "mixed"

    def loss(self, ctx, batch):
        relabel = ctx.task.relabel
        ctx.task.relabel = lambda batch, draw, keep_true: relabel(batch, draw, True)
        return ctx.loss(ctx.relabel(batch))


class Unweighed(Bad):
    """Takes the mean of the losses itself, past SuperLoss."""

    def loss(self, ctx, retain):
        return ctx.losses(retain).mean()


class HalfWeighed(Bad):
    """Takes one term of two past SuperLoss."""

    on = "paired"

    def loss(self, ctx, retain, forget):
        return ctx.loss(retain) - ctx.losses(forget).mean()


class Explodes(Bad):
    """Leaves parameters that are not finite."""

    def finish(self, ctx):
        next(ctx.network.parameters()).data.fill_(float("inf"))


class Validates(Bad):
    """Reads D_V and does not say so."""

    on = "validation"


class Tampering(Bad):
    """Moves its teacher."""

    def finish(self, ctx):
        next(ctx.original.parameters()).data.add_(1.0)


class Leaves(Bad):
    """Ends the process, as a library without its licence does."""

    def loss(self, ctx, retain):
        raise SystemExit("needs a licence")


FAULTS = {
    Forgets: "D_R holds nothing of D_F",
    Peeks: "runs",
    Random: "same seed, same result",
    Idle: "changes what it claims",
    Spender: "stops at its budget",
    TrueLabels: "relabels D_F alone, and never with the true label",
    Unweighed: "SuperLoss weighs every example's loss",
    HalfWeighed: "SuperLoss weighs every example's loss",
    Explodes: "parameters stay finite",
    Validates: "runs",
    Tampering: "teachers stand still in eval mode",
}


@pytest.fixture
def registered(monkeypatch):
    """Register a method for the length of one test."""

    def register(cls):
        monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))
        monkeypatch.setattr(METHODS, "_spellings", dict(METHODS._spellings))
        return method(f"faulty_{cls.__name__}", title=cls.__name__, cites="made for a test")(cls).name

    METHODS.names()
    return register


def test_leaving_is_told_as_what_it_is(registered):
    told = [finding.detail for finding in check_method(registered(Leaves)) if not finding.ok]
    assert told == ["SystemExit: needs a licence"] * 2


@pytest.mark.parametrize("cls", FAULTS)
def test_a_fault_is_found(cls, registered):
    found = {f.name.removeprefix("cnn-small: ") for f in check_method(registered(cls)) if not f.ok}
    assert FAULTS[cls] in found


def test_a_sound_method_has_none(registered):
    class Sound(Bad):
        """CE on D_R, nothing more."""

    assert [f for f in check_method(registered(Sound)) if not f.ok] == []


def test_a_penalty_on_the_weights_is_no_example_s_loss_and_who_refuses_superloss_is_believed(registered):
    class Pulled(Bad):
        """CE on D_R and a pull of the weights to zero."""

        reads_weights = True

        def loss(self, ctx, retain):
            return ctx.loss(retain) + 0.01 * sum(p.square().sum() for p in ctx.network.parameters())

    class Refuses(Unweighed):
        """Past SuperLoss, and says so."""

        without_superloss = "has its own weights of examples"

    for cls, reason in ((Pulled, ""), (Refuses, "own weights of examples; leave superloss out")):
        findings = check_method(registered(cls))
        assert [f for f in findings if not f.ok] == []
        assert [reason in f.detail for f in findings if "SuperLoss" in f.name] == [True]


def test_missing_words_and_spaces_are_found(registered):
    class Silent(Method):
        taxonomy = Taxonomy(corrupts="")
        epochs: float = uniform(5, 10, default=1)

        def loss(self, ctx, retain):
            return ctx.loss(retain)

    found = {f.name for f in check_method(registered(Silent)) if not f.ok}
    assert found >= {
        "has a docstring, a title and a citation",
        "has its place in the taxonomy",
        "defaults lie in the search space",
    }
    assert accepts(Silent, {"epochs": 6}) and not accepts(Silent, {"epochs": 1})


def test_a_refusal_is_a_finding_with_its_reason(registered):
    class TextOnly(Bad):
        """For text alone, says its refusal."""

        @classmethod
        def refusal(cls, task):
            return f"{task.name} is no text"

    assert [f.detail for f in check_method(registered(TextOnly)) if f.name.startswith("refuses p")] == [
        f"{Pictures.name} is no text"
    ]


def test_a_method_that_does_not_say_for_how_long_is_told_so(apart):
    @method("endless", title="Endless", cites="nobody")
    class Endless(Method):
        """The task loss on D_R."""

        taxonomy = Taxonomy(corrupts="logits", retains="task loss")
        on = "retain"

        def loss(self, ctx, batch):
            return ctx.loss(batch)

    with pytest.raises(MubenchError, match="method endless does not say for how long: declare epochs"):
        Endless.configure({}).phases(None)
