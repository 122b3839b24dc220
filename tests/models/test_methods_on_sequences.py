"""Losses of methods on targets that are sequences, beside formulas written out token by token on raw logits: padding and prompt never count."""

import copy
import math

import pytest
import torch

from mubench_ray.methods import METHODS
from mubench_ray.models import MODELS
from mubench_ray.training.context import Context, Helper
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.meter import Meter
from tests.models.conftest import seeded

PAD = -100


class World:
    """A tiny language model that has moved away from f_O, and batches of D_F and D_R with targets of unlike lengths."""

    def __init__(self, loaded, name):
        model = MODELS.get(name)
        task, splits = loaded("text", model.kinds[0])
        sets = {
            "forget": Rows(splits.train, torch.tensor([0, 60, 150])),
            "retain": Rows(splits.train, torch.tensor([1, 40, 90, 130, 182])),
            "validation": Rows(splits.validation, torch.linspace(0, len(splits.validation) - 1, 3).long()),
        }
        if name == "t5-tiny":
            sets = {key: Rows(rows.examples, torch.arange(len(rows)) + 2) for key, rows in sets.items()}
        network = seeded(lambda: model.build(task)).eval()
        self.ctx = Context(task, model, network, UnlearningData(task, model, sets), 1, Meter(), 1e-4)
        self.ctx.keep_original()
        self.original = copy.deepcopy(network)
        self.other = self.ctx.incompetent
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in network.parameters():
                p += 0.05 * torch.randn(p.shape, generator=generator)
        self.network = network
        self.batches = {key: self.ctx.data.batch(rows, torch.arange(len(rows))) for key, rows in sets.items()}

    def rows(self, network, name):
        """Of each example of a set the raw logits of the tokens that count, (t, V), and those tokens, (t,)."""
        inputs = {key: value for key, value in self.batches[name].inputs.items() if key != "targets"}
        targets = self.batches[name].inputs["targets"]
        logits = network(**inputs, use_cache=False).logits[:, -targets.shape[1] :]
        return [(z[y != PAD], y[y != PAD]) for z, y in zip(logits, targets)]

    def log_p(self, network, name):
        """log p(y | x) of each example: the sum over its tokens."""
        return torch.stack([(z.log_softmax(1)[range(len(y)), y]).sum() for z, y in self.rows(network, name)])

    def lengths(self, name):
        """Tokens that count in each example."""
        return torch.tensor([float(len(y)) for _, y in self.rows(self.original, name)])

    def ce(self, name):
        """The task's loss: a token's mean in each example, then the examples'."""
        return (-self.log_p(self.network, name) / self.lengths(name)).mean()

    def kl(self, first, second, name, temperature=1.0):
        """KL(first || second), nats a token, then the examples' mean."""
        each = []
        for (z, _), (w, _) in zip(self.rows(first, name), self.rows(second, name)):
            p, q = (z / temperature).log_softmax(1), (w / temperature).log_softmax(1)
            each.append((p.exp() * (p - q)).sum() / len(z))
        return torch.stack(each).mean()

    def assert_same(self, ours, by_hand):
        """The loss and its gradient."""
        assert ours.item() == pytest.approx(by_hand.item(), rel=1e-4, abs=1e-6)
        found = [
            torch.autograd.grad(loss, list(self.network.parameters()), allow_unused=True, retain_graph=True)
            for loss in (ours, by_hand)
        ]
        size = max(float(g.abs().max()) for g in found[1] if g is not None)
        assert size > 1e-6
        for a, b in zip(*found):
            assert (a is None) == (b is None)
            assert a is None or torch.allclose(a, b, rtol=1e-3, atol=1e-4 * size)


@pytest.fixture(params=["llama-tiny", "t5-tiny"])
def world(request, loaded):
    return World(loaded, request.param)


@pytest.fixture
def llama(loaded):
    return World(loaded, "llama-tiny")


def configured(name, **given):
    return METHODS.get(name).configure(given)


def test_the_batches_are_padded_and_of_unlike_lengths(llama):
    for name in llama.batches:
        assert len(set(llama.lengths(name).tolist())) > 1
        assert (llama.batches[name].inputs["targets"] == PAD).any()


def test_a_task_gives_the_summed_log_probability_and_its_tokens(world):
    ctx, batch = world.ctx, world.batches["forget"]
    assert torch.equal(ctx.task.tokens(batch), world.lengths("forget"))
    assert torch.allclose(ctx.log_likelihoods(batch), world.log_p(world.network, "forget"), rtol=1e-5)
    assert torch.allclose(ctx.log_likelihoods(batch, ctx.original), world.log_p(world.original, "forget"), rtol=1e-5)
    assert torch.allclose(ctx.losses(batch), -world.log_p(world.network, "forget") / world.lengths("forget"), rtol=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_npo(world, reduction, beta):
    each = world.lengths("forget") if reduction == "mean" else 1
    with torch.no_grad():
        reference = world.log_p(world.original, "forget") / each
    ratio = (world.log_p(world.network, "forget") / each - reference).exp()
    by_hand = 2 / beta * torch.log(1 + ratio**beta).mean() + 0.7 * world.ce("retain")
    method = configured("npo", beta=beta, gamma=0.7, **({} if reduction == "sum" else {"reduction": "mean"}))
    world.assert_same(method.loss(world.ctx, world.batches["retain"], world.batches["forget"]), by_hand)


def test_npo_lets_go_of_a_target_that_has_become_unlikely(llama):
    """The weight of an example, 2 p^beta / (p^beta + q^beta) of its whole target, falls; that of a token's mean would stay near 1."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in llama.network.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
        lost = llama.log_p(llama.original, "forget") - llama.log_p(llama.network, "forget")
    assert lost.min() > 10  # nats
    llama.batches["forget"].cache.clear()
    size = {}
    for reduction in ("sum", "mean"):
        loss = configured("npo", gamma=0, beta=0.5, reduction=reduction).preference(llama.ctx, llama.batches["forget"])
        gradient = torch.autograd.grad(loss, list(llama.network.parameters()), retain_graph=True)
        size[reduction] = math.sqrt(sum(float(g.square().sum()) for g in gradient))
    ascent = torch.autograd.grad(llama.ce("forget"), list(llama.network.parameters()))
    limit = math.sqrt(sum(float(g.square().sum()) for g in ascent))
    assert size["sum"] < 0.1 * limit and size["mean"] > 0.7 * limit, (size, limit)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_bad_t(world, temperature):
    corrupt = world.kl(world.other, world.network, "forget", temperature)
    keep = world.kl(world.original, world.network, "retain", temperature)
    method = configured("bad_t", temperature=temperature)
    world.assert_same(method.loss(world.ctx, world.batches["retain"], world.batches["forget"]), (corrupt + keep) / 2)
    mixed = configured("bad_t", temperature=temperature, form="mixed")
    world.assert_same(mixed.mixed(world.ctx, world.batches["forget"]), corrupt)
    world.assert_same(mixed.mixed(world.ctx, world.batches["retain"]), keep)


def test_scrub(world):
    method = configured("scrub", temperature=3.0, gamma=0.8, alpha=0.5)
    away = -9 * world.kl(world.original, world.network, "forget", 3.0)
    world.assert_same(method.corrupt(world.ctx, world.batches["forget"]), away)
    keep = 0.8 * world.ce("retain") + 0.5 * 9 * world.kl(world.original, world.network, "retain", 3.0)
    world.assert_same(method.keep(world.ctx, world.batches["retain"]), keep)


def test_kga(world):
    method = configured("kga", alpha=0.3)
    world.ctx.helpers = {f"kga {name}": Helper(world.other, None) for name in ("forget", "validation")}
    method.measure(world.ctx)
    extra = float(world.kl(world.original, world.other, "validation"))
    assert world.ctx.state["gap"] == pytest.approx(extra, rel=1e-4)
    gap = world.kl(world.network, world.other, "forget")
    kept = world.kl(world.original, world.network, "retain")
    loss = method.align(world.ctx, world.batches["retain"], world.batches["forget"])
    world.assert_same(loss, (gap - extra).abs() + 0.3 * kept)


@pytest.mark.parametrize("form", ["released", "scaled"])
def test_kde(world, form):
    method = configured("kde", temperature=2.0, form=form)
    factor, T = (4, 1) if form == "scaled" else (1, 2)
    world.assert_same(
        method.distance(world.ctx, world.batches["validation"]),
        factor * world.kl(world.original, world.network, "validation", 2.0),
    )
    each = []
    for (z, _), (w, _) in zip(world.rows(world.original, "retain"), world.rows(world.network, "retain")):
        each.append(-((z / T).softmax(1) * (w / T).log_softmax(1)).sum() / len(z))
    distance = world.kl(world.original, world.network, "retain", 2.0)
    by_hand = torch.stack(each).mean() + world.ce("retain") + factor * distance
    world.assert_same(method.distil(world.ctx, world.batches["retain"]), by_hand)


def test_superloss_weighs_sequences(world):
    """With SuperLoss the divergence of each example is what is weighed: a constant confidence is the plain loss."""
    seen = []
    world.ctx.curriculum = lambda losses: seen.append(losses) or 2 * losses
    loss = configured("bad_t").loss(world.ctx, world.batches["retain"], world.batches["forget"])
    assert [tuple(losses.shape) for losses in seen] == [(3,), (5,)]
    corrupt = world.kl(world.other, world.network, "forget")
    world.assert_same(loss, corrupt + world.kl(world.original, world.network, "retain"))
