"""What a task is: data with a modality, a loss, a score and a way to relabel; methods see only these, never pixels or tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.registry import Registry
from mubench_ray.tasks.examples import (
    Columns,
    Examples,
    MappedExamples,
    Splits,
    carve_validation,
    limit,
    listed,
    validated_on_test,
)
from mubench_ray.trial import Training

__all__ = [
    "TASKS", "Batch", "Card", "Classification", "Columns", "Examples", "ImageClassification", "MappedExamples", "Splits", "Task",
    "carve_validation", "limit", "task",
]  # fmt: skip


@dataclass(frozen=True)
class Card:
    """Where a data set comes from and what to know of it. ``sizes`` counts D (``train``), D_V (``validation``) and D_Test (``test``) as loaded."""

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

    ``cache`` holds each network's outputs for these inputs, so that two losses on one batch cost one forward pass. ``encode`` is given where
    the inputs depend on the targets (a decoder reads its target): it makes the inputs anew when a target is replaced.
    """

    columns: Columns
    inputs: Columns
    forget: Tensor
    cache: dict[Hashable, Any] = field(default_factory=dict)
    encode: Callable[[Columns], Columns] | None = None

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def replace(self, **columns: Tensor) -> Batch:
        """The batch with other targets; inputs and cached outputs stay valid unless the inputs depend on the targets."""
        merged = {**self.columns, **columns}
        if self.encode is None or not columns:
            return replace(self, columns=merged)
        return replace(self, columns=merged, inputs=self.encode(merged), cache={})


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
    #: Examples of the training split, once D_V is carved off: what a plan estimates with, without loading anything. Taken from the card.
    train_size: ClassVar[int] = 0
    #: Whether D_V is carved out of the data's training list (``carve_validation``), or comes from a list of its own.
    carves_validation: ClassVar[bool] = True
    #: Whether D_Test is carved out of it too, of data that has no test set.
    carves_test: ClassVar[bool] = False
    #: Raised where what the task gives (its data, splits, losses, scores) changes an outcome; enters the ids of trials and artifacts once above 1.
    version: ClassVar[int] = 1
    #: Whether the network reads the targets (teacher forcing), so that other targets are other inputs.
    reads_targets: ClassVar[bool] = False
    #: Whether a model's checkpoint itself is the original: it is not trained first, and there is no retrain to compare with.
    #: A model without a checkpoint is trained on D as for any task.
    pretrained_original: ClassVar[bool] = False
    #: The budget of such a trial, in passes over D_R, in place of what a retrain would have spent.
    budget_epochs: ClassVar[float] = 1.0
    #: Column of the targets where another example's takes a relabelled one's place: a run then draws from those of D_R, which ``relabel`` gets as its ``pool``.
    relabels_from: ClassVar[str | None] = None
    #: The task whose training list ``source_index`` counts in, where released forget lists are known by it: its own name unless said.
    numbered_as: ClassVar[str] = ""
    #: Names of the shifted test sets that ``load`` gives where their data is at hand.
    shifted: ClassVar[tuple[str, ...]] = ()
    #: Examples of one evaluation batch.
    evaluation_batch: ClassVar[int] = 512
    #: Examples of each split that a point of a curve is evaluated on, and that a subset keeps at least of D_Test.
    sampled: ClassVar[int] = 1000
    #: Examples of D_F and of D_Test that ``judge`` is given.
    judged: ClassVar[int] = 0

    def __init__(self, data_dir: str | Path | None = None) -> None:
        self.data_dir = Path(data_dir) if data_dir else None

    @abstractmethod
    def load(self) -> Splits:
        """Read the data; raises DataError naming the file that is missing or malformed."""

    def splits(self, subset: int | None = None, validation: str | None = None) -> Splits:
        """The data as trials have it: with D_V where it is asked for (``test-half``), cut to ``subset`` training examples. Raises DataError as ``load``
        does, and where it cannot be had so."""
        splits = self.load()
        splits = replace(splits, listed=listed(splits, self.carves_validation))
        if validation:
            splits = validated_on_test(splits, self.carves_validation)
        return limit(splits, subset, self.sampled) if subset else splits

    @classmethod
    def size_of_d(cls, subset: int | None = None, validation: str | None = None) -> int:
        """Examples of D that trials have, as far as the card says; 0 where it does not."""
        carved = cls.card.sizes.get("validation", 0) if validation and cls.carves_validation else 0
        whole = cls.train_size + carved if cls.train_size else 0
        return min(subset, whole or subset) if subset else whole

    @abstractmethod
    def blank(self, rows: int) -> Columns:
        """``rows`` examples of zeros, of the shapes and types that taking rows of ``load`` gives, without loading any data."""

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Loss of each example, (B,), in nats."""

    def log_likelihoods(self, outputs: Any, batch: Batch) -> Tensor:
        """log p(y | x) of each example's whole target, (B,), in nats: the loss with its sign turned, unless that is a mean over a sequence."""
        return -self.losses(outputs, batch)

    def tokens(self, batch: Batch) -> Tensor | int:
        """How many tokens of each example's target count, at least 1, float (B,); 1 where a target is no sequence. An example's loss and its divergence
        from a teacher are means over them."""
        return 1

    @abstractmethod
    def log_probs(self, outputs: Any, batch: Batch) -> Tensor:
        """Log-probabilities that a teacher and a student can be compared on, (B, K), or (B, T, K) of a target of T tokens."""

    @abstractmethod
    def relabel(self, batch: Batch, draw: Tensor, keep_true: bool) -> Batch:
        """The batch with random targets; ``draw`` holds one uniform number in [0, 1) per row, and unless ``keep_true``
        the new target is never the true one."""

    @abstractmethod
    def observe(self, outputs: Any, batch: Batch) -> Columns:
        """What is kept of every evaluated example: ``loss`` (nats), ``correct`` in [0, 1] and ``confidence``, the logit-scaled
        confidence log(p / (1 - p)) of the true target (Carlini et al. 2022), and ``entropy`` of the prediction (nats), each (B,). A classifier also gives
        ``modified_entropy`` (nats) and ``top_probability``, that of the class that it predicts."""

    def divergence(self, teacher: Any, student: Any, batch: Batch) -> Tensor | None:
        """How far two networks' outputs lie apart on each example, (B,), nats, for a task without log-probabilities; None: their KL divergence."""
        return None

    def judge(self, model: Any, network: nn.Module, columns: Columns, device: str = "cpu") -> dict[str, Any]:
        """What shows only in what the network generates: scores of each example by name, arrays (N,); none for most tasks."""
        return {}

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
    #: The last so many of them are of no example: a published head has outputs for them.
    empty_classes: ClassVar[int] = 0
    #: Names of the classes by number, where the data has any; what a checkpoint calls its own is held against them.
    class_names: tuple[str, ...] = ()
    #: What others call them.
    class_synonyms: ClassVar[dict[str, str]] = {}

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
        """Cross-entropy, 0/1 correctness, log p_y - log(1 - p_y), entropy, modified entropy and the largest probability, computed in float64 so that neither
        end overflows. A prediction that is no number is never right."""
        log_probs = F.log_softmax(outputs.double(), dim=-1)
        labels = batch["labels"].unsqueeze(-1)
        true = log_probs.gather(-1, labels).squeeze(-1)
        others = log_probs.scatter(-1, labels, -torch.inf).logsumexp(-1)
        return {
            "loss": -true,
            "correct": ((outputs.argmax(-1) == batch["labels"]) & ~true.isnan()).double(),
            "confidence": true - others,
            "entropy": torch.special.entr(log_probs.exp()).sum(-1),
            "modified_entropy": modified_entropy(log_probs, labels),
            "top_probability": log_probs.amax(-1).exp(),
        }


def modified_entropy(log_probs: Tensor, labels: Tensor) -> Tensor:
    """-(1 - p_y) log p_y - sum over the other classes of p log(1 - p), nats, (B,), of log-probabilities (B, K) and labels (B, 1): 0 for what is certain and
    right, large for what is certain and wrong (Song & Mittal 2021, arXiv 2003.10595). As there no logarithm is below log(1e-30)."""
    probs = log_probs.exp()
    least = math.log(1e-30)
    others = (probs * torch.log1p(-probs).clamp(min=least)).scatter(-1, labels, 0.0).sum(-1)
    true = log_probs.gather(-1, labels).squeeze(-1)
    return torch.expm1(true) * true.clamp(min=least) - others


class ImageClassification(Classification):
    """Images in column ``image`` (uint8, N x channels x size x size) with ``labels``."""

    modality = "image"
    channels: ClassVar[int]
    size: ClassVar[int]
    #: Mean and standard deviation of the pixels in [0, 1], per channel.
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    def blank(self, rows: int) -> Columns:
        """Black images of class 0."""
        image = torch.zeros(rows, self.channels, self.size, self.size, dtype=torch.uint8)
        return {"image": image, "labels": torch.zeros(rows, dtype=torch.int64), "index": torch.arange(rows)}


TASKS: Registry[type[Task]] = Registry("task", "mubench_ray.tasks")
Described = TypeVar("Described", bound=Task)


def task(name: str, *aliases: str) -> Callable[[type[Described]], type[Described]]:
    """Class decorator that registers a task under ``name``."""

    def register(cls: type[Described]) -> type[Described]:
        cls.name = name
        if "numbered_as" not in cls.__dict__:
            cls.numbered_as = name
        if not cls.train_size:
            cls.train_size = cls.card.sizes.get("train", 0)
        TASKS.add(name, cls, aliases)
        return cls

    return register
