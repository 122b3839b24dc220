"""The fixed problem that released code and this package both ran on: pictures, split, network, f_O, and how f_U is measured.

Everything follows from the seeds below. Released code gets the same tensors and the same weights; nothing here is of its making, and nothing of it is here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.methods import Method
from mubench_ray.metrics.u_mia import attack_accuracy
from mubench_ray.models.base import ImageModel
from mubench_ray.tasks.base import Card, ImageClassification, Splits
from mubench_ray.tasks.examples import Examples
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.meter import Meter
from mubench_ray.trial import ForgetSet, Training, Trial, Unlearning
from mubench_ray.trials.unlearning import unlearn

#: Examples of each set, in this order of one shuffled list; the first of D are D_F.
D_F, D_R, D_V = 80, 720, 200
#: Standard deviation of the noise on the pixels, of 255: without it there is nothing to memorise.
NOISE = 70
#: What f_O is trained with: SGD with momentum, cosine over the epochs.
LR, MOMENTUM, DECAY, BATCH, EPOCHS = 0.05, 0.9, 5e-4, 64, 20


class Digits(ImageClassification):
    """Scikit-learn's digits in three equal channels, with noise."""

    name = "noisy_digits"
    card = Card("Noisy digits", "sklearn.datasets.load_digits", "CC BY 4.0", "none", "none", {"train": D_F + D_R})
    classes, channels, size = 10, 3, 8
    mean, std = (0.35,) * 3, (0.38,) * 3
    training = Training(optimizer="sgd", lr=LR, epochs=EPOCHS, batch_size=BATCH, weight_decay=DECAY)

    def load(self) -> Splits:
        """D in the order D_F, D_R; D_V; D_Test."""
        import numpy as np
        from sklearn.datasets import load_digits

        bunch = load_digits()
        rng = np.random.RandomState(0)
        order = rng.permutation(len(bunch.target))
        noisy = np.round(bunch.images / 16 * 255 + NOISE * rng.standard_normal(bunch.images.shape)).clip(0, 255)
        image = torch.from_numpy(noisy[order]).to(torch.uint8).unsqueeze(1).repeat(1, 3, 1, 1)
        everything = Examples(
            {"image": image, "labels": torch.from_numpy(bunch.target[order]).long()}, torch.arange(len(order))
        )
        ends = torch.tensor([0, D_F + D_R, D_F + D_R + D_V, len(order)])
        return Splits(*(everything.select(torch.arange(a, b)) for a, b in pairwise(ends)))


class Block(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.bend = bend
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        if stride > 1:
            self.conv3, self.bn3 = nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        beside = self.bn3(self.conv3(x)) if hasattr(self, "conv3") else x
        return self.bend(self.bn2(self.conv2(self.bend(self.bn1(self.conv1(x))))) + beside)


class Network(nn.Module):
    """A residual network of three blocks; the names of its parts are those that released code looks for (``conv1``, ``bn``, ``fc``).

    ``bend`` is what stands between its layers: without a kink, rounding stays as small as it is.
    """

    def __init__(self, bend: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.bend = bend
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 8, 1, bend), Block(8, 16, 2, bend), Block(16, 32, 2, bend))
        self.fc = nn.Linear(32, 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, 10) of pictures (B, 3, 8, 8)."""
        return self.fc(self.blocks(self.bend(self.bn1(self.conv1(pixel_values)))).mean((-2, -1)))


class Architecture(ImageModel):
    """``Network`` as a model."""

    name, family, citation = "released-problem", "released-problem", "He et al. 2016, arXiv 1512.03385"

    def build(self, task: ImageClassification) -> nn.Module:
        """A new one, of torch's own initialisation."""
        return Network()


TASK, MODEL = Digits(), Architecture()


@functools.cache
def splits() -> Splits:
    """The three splits."""
    return TASK.load()


@functools.cache
def sets() -> dict[str, tuple[Tensor, Tensor]]:
    """(pixels, labels) of ``forget``, ``retain``, ``validation`` and ``test``."""
    parts = splits()
    pixels = {
        name: (MODEL.encode(TASK, part.columns)["pixel_values"], part.columns["labels"])
        for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
    }
    x, y = pixels.pop("train")
    return {"forget": (x[:D_F], y[:D_F]), "retain": (x[D_F:], y[D_F:]), **pixels}


def trained(seed: int, without_forget: bool = False) -> Network:
    """f_O of a seed, or the retrain f_R on D_R; in train mode."""
    torch.manual_seed(seed)
    network, data = Network(), sets()
    names = ("retain",) if without_forget else ("forget", "retain")
    x, y = (torch.cat([data[name][column] for name in names]) for column in (0, 1))
    order = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for at in torch.randperm(len(y), generator=order).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(x[at]), y[at]).backward()
            optimizer.step()
        schedule.step()
    return network


def begun() -> Network:
    """A network after thirty steps on all of D, which the rounding of any machine hardly moves: where runs that must agree exactly start from."""
    torch.manual_seed(7)
    network, data = Network(F.silu), sets()
    x, y = (torch.cat([data[name][column] for name in ("forget", "retain")]) for column in (0, 1))
    optimizer = torch.optim.SGD(network.parameters(), 0.2)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network


@torch.no_grad()
def measure(network: nn.Module, seed: int) -> dict[str, float]:
    """Accuracy and mean CE on the four sets, and the membership attack's accuracy on D_F against D_Test."""
    network.eval()
    logits = {name: (network(x), y) for name, (x, y) in sets().items()}
    losses = {name: F.cross_entropy(z, y, reduction="none") for name, (z, y) in logits.items()}
    return {
        **{f"{name}_accuracy": float((z.argmax(1) == y).float().mean()) for name, (z, y) in logits.items()},
        **{f"{name}_loss": float(each.mean()) for name, each in losses.items()},
        "u_mia": float(attack_accuracy(losses["forget"].numpy(), losses["test"].numpy(), seed)),
    }


def context(network: nn.Module, seed: int, lr: float | None) -> Context:
    """What a method of this package starts from."""
    parts = splits()
    rows = {
        "forget": Rows(parts.train, torch.arange(D_F)),
        "retain": Rows(parts.train, torch.arange(D_F, D_F + D_R)),
        "validation": Rows.all_of(parts.validation),
    }
    return Context(TASK, MODEL, network, UnlearningData(TASK, MODEL, rows), seed, Meter(), lr)


def ours(
    network: nn.Module,
    method: Method,
    seed: int,
    lr: float | None,
    options: Unlearning,
    prepare: Callable[[Context], None] = lambda ctx: None,
) -> nn.Module:
    """f_U of a configured method of this package, from ``network``; nothing limits what it spends. ``prepare`` changes what it starts from."""
    ctx = context(network, seed, lr)
    prepare(ctx)
    trial = Trial(task=TASK.name, model=MODEL.name, method=method.name, forget=ForgetSet(ratio=10), seed=seed,
                  training_seed=seed, lr=lr, training=TASK.training, unlearning=options)  # fmt: skip
    if unlearn(ctx, method, trial, lambda ctx: None):
        raise RuntimeError(f"{method.name} was cut short, though nothing limits it")
    return ctx.network


def projected(values: Tensor, seed: int) -> list[float]:
    """Norm of a vector and its product with a direction that the seed gives."""
    values = values.detach().double().flatten()
    direction = torch.randn(len(values), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [float(values.norm()), float(values @ direction)]


def changes(network: nn.Module, start: nn.Module) -> dict[str, list[float]]:
    """``projected`` of every parameter's change."""
    before = dict(start.named_parameters())
    return {name: projected(p - before[name], place) for place, (name, p) in enumerate(network.named_parameters())}
