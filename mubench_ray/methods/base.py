"""What a method is: hyperparameters with their search space, a short list of phases, its place in the taxonomy and its citation."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

from torch import Tensor, nn

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.methods.learning_rates import GENERIC, LearningRate, of_all_optimizers
from mubench_ray.registry import Registry
from mubench_ray.tasks.base import Task
from mubench_ray.training.context import Context, kl
from mubench_ray.training.phase import Optimizer, Phase, Source
from mubench_ray.trial import Unlearning

__all__ = [
    "METHODS",
    "Context",
    "LearningRate",
    "Method",
    "Optimizer",
    "Phase",
    "Taxonomy",
    "at_epochs",
    "choice",
    "integer",
    "kl",
    "log_uniform",
    "method",
    "share",
    "uniform",
]


#: Share of a range, from either end, in which a best value is at the edge.
EDGE = 0.05


@dataclass(frozen=True)
class Space:
    """Where a hyperparameter may lie, and how a search draws it: between ``low`` and ``high``. By hand it may be set above ``high``, up to ``most``, and on a
    logarithmic scale to anything above 0."""

    kind: Literal["uniform", "log_uniform", "integer", "choice"]
    low: float = 0.0
    high: float = 0.0
    choices: tuple = ()
    #: Whether a search of all hyperparameters searches it; else only where it is named.
    searched: bool = True
    least: float | None = None
    most: float = math.inf
    #: Whether 0 itself is refused, where nothing else is below ``least``.
    positive: bool = False
    #: The default of one that came later: it goes unsaid, so that trials from before it keep their ids.
    unsaid: Any = None

    def __str__(self) -> str:
        if self.kind == "choice":
            return "in {" + ", ".join(map(str, self.choices)) + "}"
        return f"{self.kind}[{self.low:g}, {self.high:g}]"

    def at_edge(self, value: Any) -> bool:
        """Whether a search that found this value best might find a better one beyond its end: of numbers to choose from it is the first or the last, of a
        range it lies within EDGE of an end, on the range's own scale. An end that no value may lie beyond (a share's 0 and 1) is none."""
        if self.kind == "choice":
            numbers = [c for c in self.choices if isinstance(c, int | float) and not isinstance(c, bool)]
            return 1 < len(numbers) == len(self.choices) and value in (min(numbers), max(numbers))
        scale = math.log if self.kind == "log_uniform" else float
        low, high, at = scale(self.low), scale(self.high), scale(value)
        least = self.low if self.least is None else self.least
        further = self.kind == "log_uniform" or least < self.low, self.high < self.most
        return (further[0] and at <= low + EDGE * (high - low)) or (further[1] and at >= high - EDGE * (high - low))

    def within(self, own: Space | None) -> Space:
        """This space where ``own``, if there is one, says how far values may go beyond its ends."""
        if own is None:
            return self
        return dataclasses.replace(self, least=own.low if own.least is None else own.least, most=own.most)

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
        least = self.low if self.least is None else self.least
        if (self.kind == "log_uniform" or self.positive) and value <= 0:
            raise MubenchError(f"{name} = {value:g} is not above 0.")
        if self.kind != "log_uniform" and value < least:
            raise MubenchError(f"{name} = {value:g} is below {least:g}.")
        if value > self.most:
            raise MubenchError(f"{name} = {value:g} is above {self.most:g}.")
        return int(value) if self.kind == "integer" else float(value)


@dataclass(frozen=True)
class Epochs(Space):
    """Numbers of epochs, or shares of all of them, kept as text (``3,5,9``, ``0.5,0.8,0.9``); a search takes the default."""

    def __str__(self) -> str:
        return "epochs"

    def check(self, name: str, value: Any) -> str:
        """The numbers, rising; raises MubenchError for anything but whole numbers above 0, or shares between 0 and 1."""
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        told = [str(part).strip() for part in parts if str(part).strip()]
        whole = all(part.isdecimal() and int(part) > 0 for part in told)
        if not whole and not all(_is_share(part) for part in told):
            raise MubenchError(
                f"{name} = {value!r} is no list of epochs, such as [3, 5, 9], or of shares of them, such as [0.5, 0.8]."
            )
        return ",".join(map(str, sorted(map(int if whole else float, told))))


def _is_share(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return 0 < float(text) < 1
    return False


def numbered(at: str, epochs: float) -> list[int]:
    """The epochs that ``at_epochs`` says, of so many: shares of them rounded down."""
    return [int(float(part) * epochs) if "." in part else int(part) for part in at.split(",") if part]


def uniform(low: float, high: float, default: float, searched: bool = True, later: bool = False) -> Any:
    """A number searched uniformly between ``low`` and ``high``; larger values may still be set by hand. ``searched`` and ``later`` as ``choice`` has them."""
    return _hyperparameter(Space("uniform", low, high, searched=searched), default, later)


def share(low: float, high: float, default: float, positive: bool = False) -> Any:
    """A share, searched uniformly between ``low`` and ``high``; by hand it may be set from 0 (``positive``: from above 0) to 1, and no other."""
    return _hyperparameter(Space("uniform", low, high, least=0.0, most=1.0, positive=positive), default)


def log_uniform(low: float, high: float, default: float, searched: bool = True) -> Any:
    """A positive number searched log-uniformly; anything above 0 may be set by hand. ``searched`` as ``choice`` has it."""
    return _hyperparameter(Space("log_uniform", low, high, searched=searched), default)


def integer(low: int, high: int, default: int, later: bool = False) -> Any:
    """A whole number searched uniformly between ``low`` and ``high``; larger ones may be set by hand. ``later`` as ``choice`` has it."""
    return _hyperparameter(Space("integer", low, high), default, later)


def choice(*choices: Any, default: Any, searched: bool = True, later: bool = False) -> Any:
    """One of the given values; not ``searched``: what the method is, rather than how it is tuned. ``later``: it came after trials were run, which had it at its
    default; the default then enters no id."""
    return _hyperparameter(Space("choice", choices=choices, searched=searched), default, later)


def at_epochs(*, default: str, later: bool = False) -> Any:
    """Epochs at which something happens, written as a list or as text, ``3,5,9``, or as shares of all, ``0.5,0.8``; none: an empty one. ``later`` as
    ``choice`` has it."""
    return _hyperparameter(Epochs("choice", choices=(default,), searched=False), default, later)


def _hyperparameter(space: Space, default: Any, later: bool = False) -> Any:
    return field(default=default, metadata={"space": dataclasses.replace(space, unsaid=default if later else None)})


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
    #: Default and range of the trial's learning rate by optimiser, with their source; ``@method`` fills in what is not declared.
    learning_rates: ClassVar[Mapping[str, LearningRate]] = GENERIC
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
    #: Settings of hyperparameters by name, ``preset: NAME`` in a suite: the form that somebody's code gives the method.
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
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

    def certificate(self, ctx: Context) -> tuple[float, float] | None:
        """The (epsilon, delta)-unlearning that it guarantees of f_U once it has ended; None where it, or the run that the budget left it, guarantees none."""
        return None

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

    def memory(self, parameters: int) -> int:
        """Bytes, at most, that it keeps of a network of so many parameters beside the networks and what trains them; the plan tells them."""
        return 0

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
    def with_preset(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The hyperparameters that are given, and those of the ``preset`` that is named among them; raises MubenchError for an unknown one."""
        given = dict(given)
        if (name := given.pop("preset", None)) is None:
            return given
        if name not in cls.presets:
            known = did_you_mean(str(name), cls.presets) if cls.presets else "It has none."
            raise MubenchError(f"method {cls.name} has no preset {name!r}. {known}")
        return {**cls.presets[name], **given}

    @classmethod
    def configure(cls, given: Mapping[str, Any]) -> Method:
        """The method with these hyperparameters; raises MubenchError for an unknown name or a value out of range."""
        given, spaces = cls.with_preset(given), cls.spaces()
        for name in given:
            if name not in spaces:
                known = did_you_mean(name, spaces) if spaces else "It has none."
                raise MubenchError(f"method {cls.name} has no hyperparameter {name!r}. {known}")
        checked = {name: spaces[name].check(f"{cls.name}.{name}", value) for name, value in given.items()}
        # A default that is spelled out is the default, also where that is written 5 and not 5.0: ids are of the text.
        defaults = cls.defaults()
        return cls(**{name: defaults[name] if value == defaults[name] else value for name, value in checked.items()})

    def hyperparameters(self) -> dict[str, Any]:
        """All hyperparameters with their values; those that came later only where they are not at their default."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value != self.spaces()[name].unsaid}


METHODS: Registry[type[Method]] = Registry("method", "mubench_ray.methods")
Chosen = TypeVar("Chosen", bound=Method)


@dataclass_transform(frozen_default=True, field_specifiers=(uniform, share, log_uniform, integer, choice, at_epochs))
def method(name: str, *aliases: str, title: str, cites: str) -> Callable[[type[Chosen]], type[Chosen]]:
    """Class decorator: make the class a frozen dataclass of its hyperparameters and register it under ``name``."""

    def register(cls: type[Chosen]) -> type[Chosen]:
        cls = dataclass(frozen=True)(cls)
        for f in dataclasses.fields(cls):
            if "space" not in f.metadata:
                raise MubenchError(
                    f"method {name}: hyperparameter {f.name!r} declares no space; use uniform, share, log_uniform, integer or choice."
                )
        cls.name, cls.title, cls.cites = name, title, cites
        cls.learning_rates = of_all_optimizers(name, cls.learning_rates) if cls.uses_lr else {}
        METHODS.add(name, cls, aliases)
        return cls

    return register
