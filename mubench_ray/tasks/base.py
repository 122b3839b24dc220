"""What a task is: data with a modality, a loss, a score and a way to relabel; methods see only these, never pixels or tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.randomness import numpy_generator
from mubench_ray.registry import Registry
from mubench_ray.trial import Training

Columns = dict[str, Tensor]

#: Split seed and validation share of Deep Unlearn (arXiv 2410.01276): 15 % of the training set is never trained on.
VALIDATION_SEED = 123
VALIDATION_SHARE = 0.15


@dataclass(frozen=True)
class Card:
    """Where a data set comes from and what to know of it."""

    title: str
    source: str
    licence: str
    citation: str
    revision: str
    sizes: dict[str, int] = field(default_factory=dict)
    traps: str = ""


@dataclass(frozen=True)
class Batch:
    """Some examples on the device: their ``columns``, the network's encoded ``inputs`` and which of them belong to D_F.

    ``cache`` holds each network's outputs for these inputs, so that two losses on one batch cost one forward pass.
    """

    columns: Columns
    inputs: Columns
    forget: Tensor
    cache: dict[int, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def replace(self, **columns: Tensor) -> Batch:
        """The batch with other targets; inputs and cached outputs stay valid because they do not depend on them."""
        return replace(self, columns={**self.columns, **columns})


@dataclass(frozen=True)
class Examples:
    """The rows of one split as columns of equal length.

    ``columns`` maps a name (``image`` uint8 (N, C, H, W), ``labels`` int64 (N,), ...) to a tensor; ``source_index`` holds each row's
    position in the data set's own training or test list, the numbering that released forget lists use.
    """

    columns: Columns
    source_index: Tensor

    def __len__(self) -> int:
        return len(self.source_index)

    @property
    def labels(self) -> Tensor:
        """Class of every row, int64 (N,)."""
        return self.columns["labels"]

    def take(self, positions: Tensor) -> Columns:
        """The columns at ``positions``; ``index`` holds the positions themselves."""
        return {**{name: column[positions] for name, column in self.columns.items()}, "index": positions}

    def select(self, positions: Tensor) -> Examples:
        """The rows at ``positions`` as a smaller set."""
        return Examples({name: column[positions] for name, column in self.columns.items()}, self.source_index[positions])


@dataclass(frozen=True)
class Splits:
    """D (train), D_V (validation, never trained on) and D_Test."""

    train: Examples
    validation: Examples
    test: Examples


def carve_validation(train: Examples, share: float = VALIDATION_SHARE) -> tuple[Examples, Examples]:
    """Split the original training set into (train, validation), class-proportionally, with the fixed split seed 123."""
    rng = numpy_generator("validation", VALIDATION_SEED, len(train))
    held = torch.zeros(len(train), dtype=torch.bool)
    for label in train.labels.unique():
        rows = (train.labels == label).nonzero().flatten()
        chosen = rng.permutation(len(rows))[: round(share * len(rows))]
        held[rows[torch.from_numpy(chosen)]] = True
    return train.select((~held).nonzero().flatten()), train.select(held.nonzero().flatten())


def limit(splits: Splits, size: int) -> Splits:
    """Class-proportional parts of all splits: ``size`` training examples, the same share of D_V, and of D_Test at least 1,000."""
    share = min(1.0, size / len(splits.train))

    def part(examples: Examples, at_least: int = 0) -> Examples:
        keep = max(share, min(1.0, at_least / len(examples)))
        return carve_validation(examples, 1 - keep)[0] if keep < 1 else examples

    return Splits(part(splits.train), part(splits.validation), part(splits.test, 1000))


class Task(ABC):
    """A data set with its modality, splits, loss and score.

    A subclass fills in the class attributes and ``load``; the rest follows from the kind of task it derives from.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    kind: ClassVar[str]
    card: ClassVar[Card]
    #: How the original and the retrain are trained, unless the model or the suite says otherwise.
    training: ClassVar[Training]

    def __init__(self, data_dir: str | Path | None = None) -> None:
        self.data_dir = Path(data_dir) if data_dir else None

    @abstractmethod
    def load(self) -> Splits:
        """Read the data; raises DataError naming the file that is missing or malformed."""

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Loss of each example, (B,), in nats."""

    @abstractmethod
    def log_probs(self, outputs: Any, batch: Batch) -> Tensor:
        """Log-probabilities that a teacher and a student can be compared on, (B, K)."""

    @abstractmethod
    def relabel(self, batch: Batch, draw: Tensor, keep_true: bool) -> Batch:
        """The batch with random targets; ``draw`` holds one uniform number in [0, 1) per row, and unless ``keep_true``
        the new target is never the true one."""

    @abstractmethod
    def observe(self, outputs: Any, batch: Batch) -> Columns:
        """What is kept of every evaluated example: ``loss`` (nats), ``correct`` in [0, 1] and ``confidence``, the logit-scaled
        confidence log(p / (1 - p)) of the true target (Carlini et al. 2022), each (B,)."""

    def augment(self, columns: Columns, generator: torch.Generator) -> Columns:
        """The columns as they are trained on for the original and the retrain; unlearning uses them un-augmented."""
        return columns

    def outputs(self, network: nn.Module, batch: Batch) -> Any:
        """The network's logits for a batch."""
        outputs = network(**batch.inputs)
        return getattr(outputs, "logits", outputs)


class Classification(Task):
    """One of ``classes`` labels for every example; the score is accuracy."""

    kind = "classification"
    classes: ClassVar[int]

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of each example, (B,)."""
        return F.cross_entropy(outputs.float(), batch["labels"], reduction="none")

    def log_probs(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log-softmax over the classes, (B, classes)."""
        return F.log_softmax(outputs.float(), dim=-1)

    def relabel(self, batch: Batch, draw: Tensor, keep_true: bool) -> Batch:
        """A label uniform over all classes (``keep_true``) or over the other classes."""
        choices = self.classes if keep_true else self.classes - 1
        step = (draw * choices).long().clamp_(max=choices - 1) + (0 if keep_true else 1)
        return batch.replace(labels=(batch["labels"] + step) % self.classes)

    def observe(self, outputs: Tensor, batch: Batch) -> Columns:
        """Cross-entropy, 0/1 correctness and log p_y - log(1 - p_y), computed in float64 so that neither end overflows."""
        log_probs = F.log_softmax(outputs.double(), dim=-1)
        labels = batch["labels"].unsqueeze(-1)
        true = log_probs.gather(-1, labels).squeeze(-1)
        others = log_probs.scatter(-1, labels, -torch.inf).logsumexp(-1)
        return {"loss": -true, "correct": (outputs.argmax(-1) == batch["labels"]).double(), "confidence": true - others}


class ImageClassification(Classification):
    """Images in column ``image`` (uint8, N x channels x size x size) with ``labels``."""

    modality = "image"
    channels: ClassVar[int]
    size: ClassVar[int]
    #: Mean and standard deviation of the pixels in [0, 1], per channel.
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]


TASKS: Registry[type[Task]] = Registry("task", "mubench_ray.tasks")


def task(name: str, *aliases: str):
    """Class decorator that registers a task under ``name``."""

    def register(cls: type[Task]) -> type[Task]:
        cls.name = name
        TASKS.add(name, cls, aliases)
        return cls

    return register
