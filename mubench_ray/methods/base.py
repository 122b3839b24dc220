"""What a method is: hyperparameters with their search space, a short list of phases, its place in the taxonomy and its citation."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

from torch import Tensor, nn

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.registry import Registry
from mubench_ray.tasks.base import Task
from mubench_ray.training.context import Context, kl
from mubench_ray.training.phase import Optimizer, Phase, Source
from mubench_ray.trial import Unlearning

__all__ = [
    "METHODS",
    "Context",
    "Method",
    "Optimizer",
    "Phase",
    "Taxonomy",
    "choice",
    "integer",
    "kl",
    "log_uniform",
    "method",
    "uniform",
]


@dataclass(frozen=True)
class Space:
    """Where a hyperparameter may lie, and how a search draws it."""

    kind: Literal["uniform", "log_uniform", "integer", "choice"]
    low: float = 0.0
    high: float = 0.0
    choices: tuple = ()
    #: Whether a search of all hyperparameters searches it; else only where it is named.
    searched: bool = True

    def __str__(self) -> str:
        if self.kind == "choice":
            return "in {" + ", ".join(map(str, self.choices)) + "}"
        return f"{self.kind}[{self.low:g}, {self.high:g}]"

    def check(self, name: str, value: Any) -> Any:
        """The value in its declared type; raises MubenchError naming the value and the range."""
        if self.kind == "choice":
            if value not in self.choices:
                raise MubenchError(f"{name} = {value!r} is not one of {list(self.choices)}.")
            return self.choices[self.choices.index(value)]  # as it is declared: 1 is True, and ids are of the text
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise MubenchError(f"{name} = {value!r} is not a number.")
        if self.kind == "integer" and value != int(value):
            raise MubenchError(f"{name} = {value!r} is not a whole number.")
        if value < self.low or (value == self.low == 0 and self.kind == "log_uniform"):
            raise MubenchError(f"{name} = {value:g} is below {self.low:g}.")
        return int(value) if self.kind == "integer" else float(value)


def uniform(low: float, high: float, default: float) -> Any:
    """A number searched uniformly between ``low`` and ``high``; larger values may still be set by hand."""
    return field(default=default, metadata={"space": Space("uniform", low, high)})


def log_uniform(low: float, high: float, default: float) -> Any:
    """A positive number searched log-uniformly; anything above 0 may be set by hand."""
    return field(default=default, metadata={"space": Space("log_uniform", low, high)})


def integer(low: int, high: int, default: int) -> Any:
    """A whole number searched uniformly between ``low`` and ``high``."""
    return field(default=default, metadata={"space": Space("integer", low, high)})


def choice(*choices: Any, default: Any, searched: bool = True) -> Any:
    """One of the given values; not ``searched``: what the method is, rather than how it is tuned."""
    return field(default=default, metadata={"space": Space("choice", choices=choices, searched=searched)})


@dataclass(frozen=True)
class Taxonomy:
    """A method's place in MU-Bench's Table 2: what corrupts knowledge of D_F, what retains that of D_R, what measures knowledge
    (the teacher), and which parameters move."""

    corrupts: str = "none"
    retains: str = "none"
    measured_by: str = "none"
    parameters: str = "dense"


@dataclass(frozen=True)
class Method:
    """Base of every method; subclasses are frozen dataclasses of their hyperparameters, made so by ``@method``.

    A method with one kind of step sets ``on`` and defines ``loss``; one with several defines ``phases``. ``finish`` runs at the end in any case,
    also when the budget cut the phases short.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    cites: ClassVar[str]
    taxonomy: ClassVar[Taxonomy] = Taxonomy()
    #: Which trained model it starts from.
    start: ClassVar[Literal["original", "retrain"]] = "original"
    #: Whether it takes gradient steps with the trial's learning rate.
    uses_lr: ClassVar[bool] = True
    #: Raised where the method's outcome moved (same trial, other numbers): everywhere, on targets that are sequences, or with SuperLoss. Enters the ids of
    #: those trials once above 1.
    version: ClassVar[int] = 1
    sequence_version: ClassVar[int] = 1
    superloss_version: ClassVar[int] = 1
    #: Whether it reads D_V, which is also the selection set; every row of such a method says so.
    uses_validation: ClassVar[bool] = False
    #: What it does that LoRA rules out: adapters leave all other weights as they are.
    without_lora: ClassVar[str | None] = None
    #: Why no loss of examples in it can be weighed by SuperLoss; a method that says nothing takes every such loss through ``ctx.loss``, ``ctx.kl``,
    #: ``ctx.divergence`` or ``ctx.mean``.
    without_superloss: ClassVar[str | None] = None
    #: Whether its loss reads the weights themselves (a penalty on them), which no worker has whole under FSDP.
    reads_weights: ClassVar[bool] = False
    #: Batches of the single phase of a method that defines only ``loss``, what drives an epoch, and its schedule.
    on: ClassVar[Source] = "retain"
    driver: ClassVar[Literal["retain", "forget"]] = "retain"
    schedule: ClassVar[Literal["constant", "cosine", "linear", "triangle"]] = "constant"

    def loss(self, ctx: Context, *batches: Any, **named: Any) -> Tensor:
        """The loss of one step (single-phase methods): of a batch, or of a batch of D_R and one of D_F where ``on`` is ``paired``."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor phases")

    def phases(self, ctx: Context) -> list[Phase]:
        """What the method does, in order."""
        optimizer, epochs = Optimizer(schedule=self.schedule), self.hyperparameters().get("epochs")
        if epochs is None:
            raise MubenchError(
                f"method {self.name} does not say for how long: declare epochs beside loss, or define phases."
            )
        return [Phase(self.name, self.on, self.loss, epochs=epochs, driver=self.driver, optimizer=optimizer)]

    def finish(self, ctx: Context) -> None:
        """What happens to the weights at the very end."""

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Why the method cannot apply to a task, or None."""
        return None

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """Why the method cannot apply to a built network (it has no convolutions, say), or None."""
        return None

    @classmethod
    def version_for(cls, task: type[Task], unlearning: Unlearning) -> int:
        """The version of the method on a task with these options: the largest of those that hold there."""
        sequence = task.tokens is not Task.tokens
        return max(
            cls.version,
            cls.sequence_version if sequence else 1,
            cls.superloss_version if unlearning.superloss is not None else 1,
        )

    def refusal_for_options(self, options: Unlearning, examples: int | None = None) -> str | None:
        """Why the method, so configured, cannot run with these options of the trial on so many training examples (if known), or None."""
        if options.lora is not None and self.without_lora:
            return f"{self.name} {self.without_lora}; leave lora out for it"
        if options.superloss is not None and self.without_superloss:
            return f"{self.name} {self.without_superloss}; leave superloss out for it"
        return None

    def result_of(self, network: nn.Module) -> nn.Module:
        """A network of f_U's architecture, whatever its weights, to load a finished step of a sequence into."""
        return network

    @classmethod
    def spaces(cls) -> dict[str, Space]:
        """The hyperparameters and their search spaces."""
        return {f.name: f.metadata["space"] for f in dataclasses.fields(cls)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The hyperparameters' defaults."""
        return {f.name: f.default for f in dataclasses.fields(cls)}

    @property
    def draws_sets(self) -> bool:
        """Whether it makes passes over sets of its own, of sizes that only it knows."""
        return False

    @classmethod
    def configure(cls, given: dict[str, Any]) -> Method:
        """The method with these hyperparameters; raises MubenchError for an unknown name or a value out of range."""
        spaces = cls.spaces()
        for name in given:
            if name not in spaces:
                known = did_you_mean(name, spaces) if spaces else "It has none."
                raise MubenchError(f"method {cls.name} has no hyperparameter {name!r}. {known}")
        checked = {name: spaces[name].check(f"{cls.name}.{name}", value) for name, value in given.items()}
        # A default that is spelled out is the default, also where that is written 5 and not 5.0: ids are of the text.
        defaults = cls.defaults()
        return cls(**{name: defaults[name] if value == defaults[name] else value for name, value in checked.items()})

    def hyperparameters(self) -> dict[str, Any]:
        """All hyperparameters with their values."""
        return dataclasses.asdict(self)


METHODS: Registry[type[Method]] = Registry("method", "mubench_ray.methods")
Chosen = TypeVar("Chosen", bound=Method)


@dataclass_transform(frozen_default=True, field_specifiers=(uniform, log_uniform, integer, choice))
def method(name: str, *aliases: str, title: str, cites: str) -> Callable[[type[Chosen]], type[Chosen]]:
    """Class decorator: make the class a frozen dataclass of its hyperparameters and register it under ``name``."""

    def register(cls: type[Chosen]) -> type[Chosen]:
        cls = dataclass(frozen=True)(cls)
        for f in dataclasses.fields(cls):
            if "space" not in f.metadata:
                raise MubenchError(
                    f"method {name}: hyperparameter {f.name!r} declares no space; use uniform, log_uniform, integer or choice."
                )
        cls.name, cls.title, cls.cites = name, title, cites
        METHODS.add(name, cls, aliases)
        return cls

    return register
