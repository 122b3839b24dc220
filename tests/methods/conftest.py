"""A method beside plain torch: the same start, the same pictures, one whole-set step a pass, so that formulas can be checked by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from mubench_ray.conformance.bench import Pictures, bench, run
from mubench_ray.methods import METHODS
from mubench_ray.training.loop import Loop
from mubench_ray.trial import Unlearning

LR = 0.05
#: Plain SGD on whole sets: one step a pass.
PLAIN = Unlearning(optimizer="sgd", momentum=0.0, batch_size=64)


def logits(network, x):
    out = network(pixel_values=x)
    return getattr(out, "logits", out)


def log_softmax(network, x, temperature=1.0):
    return torch.log_softmax(logits(network, x) / temperature, dim=1)


def ce(network, x, y):
    return F.cross_entropy(logits(network, x), y)


def kl_by_hand(p, q):
    """KL(p || q) of log-probabilities, mean over rows."""
    return (p.exp() * (p - q)).sum(1).mean()


def descend(network, loss, lr=LR, only=None):
    """One step of plain gradient descent."""
    named = [(n, p) for n, p in network.named_parameters() if only is None or n in only]
    for (_, p), g in zip(named, torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)):
        if g is not None:
            p.data -= lr * g


def assert_same(network, other, atol=1e-6):
    """Parameters and buffers."""
    state, expected = network.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name in state:
        assert torch.allclose(state[name].double(), expected[name].double(), atol=atol, rtol=0), name


class Case:
    """A context ready to unlearn, its sets as plain tensors, and copies of its start to compute with."""

    def __init__(self, model="cnn-small", seed=1, lr=LR, validation=True):
        self.ctx = bench(model, validation, seed, lr=lr)
        with torch.no_grad():  # statistics and a head as of a trained network
            self.ctx.network.train()
            for _ in range(3):
                logits(self.ctx.network, self.pixels(self.ctx.data.rows("retain").examples.columns["image"]))
        self.network = copy.deepcopy(self.ctx.network).train()
        self.original = copy.deepcopy(self.ctx.network).eval().requires_grad_(False)
        #: (index, forget) of every batch that was handed out.
        self.handed = []
        #: Labels of every batch whose loss was taken, beside its (index, forget).
        self.labels = []
        self._watch()

    def _watch(self):
        batch, losses = self.ctx.data.batch, self.ctx.task.losses

        def watched_batch(*args, **kwargs):
            got = batch(*args, **kwargs)
            self.handed.append((got["index"], got.forget))
            return got

        def watched_losses(outputs, got):
            self.labels.append((got["index"], got.forget, got["labels"]))
            return losses(outputs, got)

        self.ctx.data.batch, self.ctx.task.losses = watched_batch, watched_losses

    @staticmethod
    def pixels(image):
        return (image.float() / 255 - Pictures.mean[0]) / Pictures.std[0]

    def at(self, index, name="retain"):
        columns = self.ctx.data.rows(name).examples.columns
        return self.pixels(columns["image"][index]), columns["labels"][index]

    def set(self, name):
        """Pixels and labels of D_F, D_R or D_V."""
        return self.at(self.ctx.data.rows(name).positions, name)

    def method(self, name, **hyperparameters):
        return METHODS.get(name).configure(hyperparameters)

    def run(self, name, options=PLAIN, **hyperparameters):
        return run(self.method(name, **hyperparameters), self.ctx, options)

    def phases(self, name, options=PLAIN, skip=0, take=None, **hyperparameters):
        """Run some of the method's phases without its finish, each as it is or changed by ``take``."""
        if "original" not in self.ctx._teachers:
            self.ctx.keep_original()
        chosen = self.method(name, **hyperparameters).phases(self.ctx)
        chosen = take(chosen) if take else chosen[skip:]
        Loop(self.ctx, chosen, options).run()
        return chosen


def without_after(phases):
    """The first phase, so that what it remembers can be looked at."""
    return [replace(phases[0], after=None)]


@pytest.fixture
def case():
    return Case()


@pytest.fixture
def make_case():
    return Case


@pytest.fixture(scope="session")
def reference_store(tmp_path_factory):
    """The original and the retrain that all whole-run comparisons start from."""
    from mubench_ray.trials.artifacts import ArtifactStore

    return ArtifactStore(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def same_end(reference_store):
    """Compares f_U of a whole trial with that of a reference; ``start`` gives the reference its world."""
    return SameEnd(reference_store)


class SameEnd:
    """One comparison."""

    def __init__(self, store):
        self.store = store

    def start(self, method, lr, options, **hyperparameters):
        """(world, trial) of a reference."""
        from tests.methods.reference import World, trial_of

        self.trial = trial_of(method, lr, options, **hyperparameters)
        self.world = World.of(self.trial, self.store)
        self.before = copy.deepcopy(self.world.network.state_dict())
        return self.world, self.trial

    def draw(self, *stream):
        """A generator of one of the method's own draws."""
        from mubench_ray.randomness import torch_generator

        return torch_generator("method", self.trial.seed, *stream)

    def __call__(self, network, atol=1e-5):
        """Under SGD parameters and buffers agree to ``atol``. Adam divides by the gradient's size, also where that is rounding alone: there the two ends
        are at most 5 % of the way that was gone apart, as are the accuracies on D_F, D_R and D_Test by one example. The run was no idle one."""
        from tests.methods.reference import accuracies, ours

        mine = ours(self.trial, self.store)
        ends = [dict(net.named_parameters()) for net in (mine, network)]
        with torch.no_grad():
            gone, apart = (
                float(sum((p - q[name]).square().sum() for name, p in ends[0].items())) ** 0.5
                for q in (self.before, ends[1])
            )
        assert gone > 0.01, f"the run moved the parameters by {gone} only"
        if self.trial.unlearning.optimizer == "adam":
            assert apart <= 0.05 * gone, f"{apart:.2g} apart after a way of {gone:.2g}"
        else:
            assert_same(mine, network, atol)
        for size, a, b in zip(
            (len(self.world.forget), len(self.world.retain), len(self.world.test[1])),
            accuracies(self.world, mine),
            accuracies(self.world, network),
        ):
            assert abs(a - b) <= 1.01 / size
