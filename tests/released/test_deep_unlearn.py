"""Deep Unlearn's released code beside this package: the figures it left on the fixed problem (``deep_unlearn.json``), and ours at the same settings."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mubench_ray.methods import METHODS
from mubench_ray.training.data import Rows
from mubench_ray.training.loop import Loop
from mubench_ray.trial import Unlearning
from tests.released.problem import D_F, Network, begun, changes, context, measure, ours, projected
from tests.released.settings import EXACT, SETTINGS, WHOLE

FIGURES = json.loads((Path(__file__).parent / "deep_unlearn.json").read_text())
THEIRS = FIGURES["exact"]


@pytest.fixture(scope="module")
def start():
    """Where the runs that must agree start from."""
    return begun().train()


def halve(ctx):
    """What stands for KDE's reset on both sides."""
    with torch.no_grad():
        for layer in (ctx.network.conv1, ctx.network.fc):
            for parameter in layer.parameters():
                parameter.mul_(0.5)


def give_teacher(ctx):
    """The incompetent teacher of both sides."""
    torch.manual_seed(11)
    network = Network(F.silu)
    with torch.no_grad():
        network.fc.weight.mul_(8)
    ctx._teachers["incompetent"] = network.eval().requires_grad_(False)


def as_run(name, method):
    """The method with what stands for its random draws, and what prepares its context."""
    if name == "kde":
        object.__setattr__(method, "reset", halve)
    if name == "rni":
        early, phases = method.early_epochs, method.phases
        object.__setattr__(method, "phases", lambda ctx: phases(ctx)[early:])
    return method, give_teacher if name == "bt" else lambda ctx: None


def assert_same(found, theirs, share):
    """Of every tensor the change and its product with a direction, to a share of how far it all went."""
    gone = sum(norm**2 for norm, _ in theirs.values()) ** 0.5
    assert found.keys() == theirs.keys() and gone > 0.01
    for name, figures in theirs.items():
        assert found[name] == pytest.approx(figures, abs=share * gone), name


@pytest.mark.parametrize("setting", EXACT, ids=lambda setting: setting.name)
def test_the_same_weights_in_the_end(start, setting):
    """Several steps; what is PRMQ's is rounded to half precision by both."""
    if setting.name == "scrub":  # theirs with its last checkpoint; its choice is another test's
        setting = replace(setting, hyperparameters={**setting.hyperparameters, "rewind": False})
    method, prepare = as_run(setting.name, setting.configured())
    end = ours(copy.deepcopy(start), method, 0, setting.lr, setting.unlearning, prepare)
    assert_same(changes(end, start), THEIRS[setting.name]["changes"], 1e-3 if setting.name == "prmq" else 3e-5)


@pytest.mark.parametrize("name", ["ng+", "kde", "cf-k", "scrub"])
def test_without_its_switches_it_ends_elsewhere(start, name):
    """The comparison sees what a switch does."""
    (setting,) = (s for s in EXACT if s.name == name)
    method, prepare = as_run(name, setting.configured(switched=False))
    end = ours(copy.deepcopy(start), method, 0, setting.lr, setting.unlearning, prepare)
    with pytest.raises(AssertionError):
        assert_same(changes(end, start), THEIRS[name]["changes"], 1e-2)


def test_the_released_rewind_takes_nothing_back(start):
    """Where the start itself is nearest, released code takes that for "do not reload" and keeps the last epoch's end."""
    assert THEIRS["scrub, rewound"]["changes"] == THEIRS["scrub"]["changes"]


@pytest.mark.parametrize("tau", [0.5, 0.2])
def test_saluns_mask(start, tau):
    """The same weights are kept: as many of every tensor, at places of the same sum; one in ten thousand may be a tie of rounding."""
    ctx = context(copy.deepcopy(start), 0, 0.1)
    ctx.keep_original()
    phases = METHODS.get("salun").configure({"tau": tau}).phases(ctx)[:1]
    Loop(ctx, phases, Unlearning(optimizer="sgd", batch_size=WHOLE)).run()
    theirs = THEIRS[f"salun, mask {tau}"]
    for name, mask in ctx.mask.items():
        assert abs(int(mask.sum()) - theirs["kept"][name]) <= 1, name
        places = float((mask.flatten().double() * torch.arange(mask.numel())).sum())
        assert abs(places - theirs["places"][name]) <= 2 * mask.numel(), name


def test_ffs_variances(start):
    """With batches of one released code's is the Fisher information, too: the same standard deviation of the noise, departures on."""
    ctx = context(copy.deepcopy(start), 0, None)
    ctx.keep_original()
    rows = ctx.data.rows("retain")
    ctx.data.sets["retain"] = Rows(rows.examples, torch.arange(D_F, D_F + 40))
    given = {"alpha": 1e-4, "vector_factor": 10.0, "head_clamp": 100.0, "rows": "mean"}
    Loop(ctx, METHODS.get("ff").configure(given).phases(ctx), Unlearning(optimizer="sgd")).run()
    for name, theirs in THEIRS["ff, batch 1, 40 examples"]["std"].items():
        parameter = ctx.network.get_parameter(name)
        drawn = torch.randn(parameter.shape, generator=ctx.generator("ff", name))
        std = (parameter - start.get_parameter(name)) / drawn
        assert projected(std, 0) == pytest.approx(theirs, abs=1e-3 * theirs[0]), name


def test_every_setting_has_its_figures():
    assert {s.name for s in SETTINGS} == set(FIGURES["settings"]) and len(SETTINGS) == 49
    for setting in SETTINGS:
        theirs = FIGURES["settings"][setting.name]
        assert theirs["released"] == setting.released
        assert {len(values) for values in theirs["runs"].values()} == {5}
        for key, value in setting.cfg.items():
            held = theirs["cfg"][key]
            assert {**held, **value} == held if isinstance(value, dict) else held == value, (setting.name, key)


def test_measures_are_of_the_network(start):
    """Of the problem's four sets."""
    found = measure(copy.deepcopy(start), 0)
    assert 0.2 < found["test_accuracy"] < 0.9 and 0.3 < found["u_mia"] < 0.7
