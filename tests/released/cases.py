"""Small fixed problems, made of nothing but seeds, that released code and this package are both run on.

A network of 112 weights, its original and a moved copy of it, pictures of D_F, D_R and D_V as bytes and as a network reads them, labels, wrong labels,
and token targets with a prompt that does not count. ``authors.json`` holds what released code made of them.

To record another figure, run the released function on these tensors in a script of your own, outside the tree, and keep ``vector(network)`` after its
step: the network is called as ``network(pixels)`` and gives logits. Nothing of that code is committed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES, CHANNELS, SIZE = 6, 3, 8
FORGET, RETAIN, VALIDATION = 8, 24, 12
#: Of the pixels in [0, 1]: those that Boundary Unlearning's code takes off and puts back itself.
MEAN, STD = (0.4914, 0.4822, 0.2265), (0.2023, 0.1994, 0.2010)
LR = 0.05


def drawn(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Network(nn.Module):
    """A convolution, BatchNorm, a mean over quarters, a linear layer: logits (B, CLASSES)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits of pictures (B, CHANNELS, SIZE, SIZE)."""
        features = F.relu(self.norm(self.conv(pixel_values)))
        return self.head(F.adaptive_avg_pool2d(features, 2).flatten(1))


def images(rows: int, seed: int) -> Tensor:
    """Pictures as bytes, (rows, CHANNELS, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 150, (rows, CHANNELS, SIZE, SIZE), generator=generator)
    for row in range(rows):  # a brighter spot, of the class's own channel and half
        kind = row % CLASSES
        image[row, kind % CHANNELS, 4 * (kind // CHANNELS) : 4 * (kind // CHANNELS) + 4] += 100
    return image.to(torch.uint8)


def pixels(image: Tensor) -> Tensor:
    """Pictures as a network reads them."""
    mean, std = (torch.tensor(of).view(1, -1, 1, 1) for of in (MEAN, STD))
    return (image.float() / 255 - mean) / std


def pictures() -> dict[str, tuple[Tensor, Tensor]]:
    """Bytes and labels of D_F, D_R and D_V."""
    sizes = {"forget": FORGET, "retain": RETAIN, "validation": VALIDATION}
    return {name: (images(rows, 10 + i), torch.arange(rows) % CLASSES) for i, (name, rows) in enumerate(sizes.items())}


def wrong_labels(name: str = "any") -> Tensor:
    """Labels in the place of D_F's: ``next``, the class after each; ``any``, some drawn from all classes, of which the first is the true one."""
    true = torch.arange(FORGET) % CLASSES
    if name == "next":
        return (true + 1) % CLASSES
    any_of = torch.randint(0, CLASSES, (FORGET,), generator=torch.Generator().manual_seed(20))
    return torch.cat([true[:1], any_of[1:]])


def network(name: str = "moved") -> Network:
    """``original``: f_O, in eval mode and without gradients; ``moved``: that, moved a little, in train mode; ``other``: another one, an incompetent teacher."""
    made = Network()
    seed = {"original": 30, "moved": 30, "other": 40}[name]
    with torch.no_grad():
        for i, (key, p) in enumerate(made.named_parameters()):
            fan = 1.0 if p.dim() == 1 else p[0].numel() ** 0.5
            p.copy_(
                (drawn(*p.shape, seed=seed + i) / fan) if "norm" not in key else 1 + drawn(*p.shape, seed=seed + i) / 5
            )
            p.copy_((p * 1024).round() / 1024)
        made.norm.running_mean.copy_(torch.tensor([0.125, -0.25]))
        made.norm.running_var.copy_(torch.tensor([0.75, 1.5]))
        if name != "other":
            _fit(made)
        if name == "moved":
            for i, p in enumerate(made.parameters()):
                p += (0.05 * drawn(*p.shape, seed=50 + i) * 1024).round() / 1024
    return made.train() if name == "moved" else made.eval().requires_grad_(False)


def _fit(made: Network) -> None:
    """Give the head what tells the classes apart, so that f_O is mostly right: means of each class, in steps that no rounding of features reaches."""
    image, labels = (torch.cat(parts) for parts in zip(*pictures().values()))
    made.eval()
    read = pixels(image)
    features = F.adaptive_avg_pool2d(F.relu(made.norm(made.conv(read))), 2).flatten(1)
    means = torch.stack([features[labels == kind].mean(0) for kind in range(CLASSES)])
    centred = means - means.mean(0)
    within = (features - means[labels]).square().mean(0) + 0.02
    weight = ((centred / within) * 8).round() / 16
    made.head.weight.copy_(weight)
    made.head.bias.copy_(((-(weight * means).sum(1) / 2 - (weight @ means.mean(0)) / 2) * 8).round() / 8)


def vector(of: nn.Module, buffers: bool = True) -> list[float]:
    """All parameters, in their order, then (``buffers``) BatchNorm's running mean and variance."""
    parts = [p.detach() for p in of.parameters()]
    if buffers:
        parts += [b for name, b in of.named_buffers() if b.is_floating_point()]
    return [float(f"{value:.9g}") for part in parts for value in part.flatten().tolist()]


# Sequences: what a language model of a few tokens says of some targets, as logits that are the weights themselves.

VOCABULARY, LENGTH, IGNORED = 7, 6, -100


def targets(name: str, even: bool = False) -> Tensor:
    """Tokens (rows, LENGTH), IGNORED where they do not count: a prompt of one or two and, unless ``even``, padding of none to two."""
    rows, seed = {"forget": (4, 60), "retain": (3, 61)}[name]
    tokens = torch.randint(0, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = IGNORED
    if not even:
        for row in range(rows):
            tokens[row, : 1 + row % 2] = IGNORED
            if row % 3:
                tokens[row, -(row % 3) :] = IGNORED
    return tokens


def logits(name: str, of: str) -> Tensor:
    """Logits (rows, LENGTH, VOCABULARY) of the token at each place, of ``original`` or ``moved``."""
    rows, seed = {"forget": (4, 70), "retain": (3, 80)}[name]
    start = drawn(rows, LENGTH, VOCABULARY, seed=seed)
    return start if of == "original" else start + 0.5 * drawn(rows, LENGTH, VOCABULARY, seed=seed + 1)
