"""What an observation is: something looked at of f_U once it is there, as named arrays that metrics read.

It changes nothing in f_U and is never on the trial's clock, so it is no part of a trial's identity: it can be added later, to a network that was kept or that
is unlearned again. What every trial is looked at for (``asked`` False) fills the trial's row; the others run where a suite asks for them, and are kept by
(trial id, observation, version, options).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
from pydantic import ValidationError
from torch import nn

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.registry import Registry
from mubench_ray.tasks.base import Splits, Task
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows
from mubench_ray.trial import Frozen, Trial

#: Networks beside f_U that an observation may need, by the kind of their artifact.
Kind = Literal["original", "retrain", "forget-only", "validation-only"]


class Trained(Protocol):
    """An artifact: a trained network, and what it does on every example of the sets that were looked at when it was made (``forget_loss``, ...)."""

    folder: Path
    observed: dict[str, np.ndarray]

    def load_into(self, network: nn.Module) -> nn.Module:
        """Put the weights into a network of the same architecture."""
        ...


@dataclass(frozen=True)
class Seen:
    """What an observation may look at. f_U is ``ctx.network``, which it leaves as it is; ``sets`` are D_F (``forget``), D_R (``retain``), D_V
    (``validation``), D_Test (``test``), where D_F is of classes what these two hold of them (``forgotten_validation``, ``forgotten_test``), and, of a shadow
    model, ``unseen``; ``retrain`` is None where the trial has none; ``artifact`` gives a network of a
    kind that the observation ``needs``."""

    trial: Trial
    ctx: Context
    splits: Splits
    sets: Mapping[str, Rows]
    retrain: Trained | None
    artifact: Callable[[Kind], Trained]

    def copy(self) -> nn.Module:
        """A copy of f_U, which may be trained."""
        return copy.deepcopy(self.ctx.network)

    def network(self, kind: Kind) -> nn.Module:
        """A copy of an artifact's network, on f_U's device."""
        return self.artifact(kind).load_into(self.ctx.model.build(self.ctx.task)).to(self.ctx.device)


class Observation:
    """Base of every observation; ``@observation`` registers a subclass, whose ``Options`` say what may be set."""

    name: ClassVar[str]
    title: ClassVar[str]
    cites: ClassVar[str] = ""
    #: Raised where the same f_U gives other arrays.
    version: ClassVar[int] = 1
    #: Whether it runs only where a suite asks for it.
    asked: ClassVar[bool] = True
    #: Names of the arrays that it gives; ``*`` stands for any characters.
    gives: ClassVar[tuple[str, ...]] = ()
    #: Sets of examples that it reads, and networks beside f_U.
    reads: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[Kind, ...]] = ()
    #: What it costs beside the trial, in words.
    costs: ClassVar[str] = ""

    #: Its options, pydantic fields with their defaults.
    Options: ClassVar[type[Frozen]] = Frozen
    options: Any

    def __init__(self, **options: Any) -> None:
        try:
            self.options = self.Options(**options)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                known = did_you_mean(key, self.Options.model_fields) if self.Options.model_fields else "It has none."
                raise MubenchError(f"observation {self.name} has no option {key!r}. {known}") from None
            raise MubenchError(f"observation {self.name}: {key} = {fault['input']!r}: {fault['msg']}.") from None

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """Why there is nothing to look at on a task, or None."""
        return None

    @classmethod
    def is_given(cls, name: str) -> bool:
        """Whether it gives an array of this name."""
        return any(re.fullmatch(re.escape(given).replace(r"\*", ".*"), name) for given in cls.gives)

    def observe(self, seen: Seen) -> dict[str, Any]:
        """The arrays, by the names that metrics read."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it observes")


OBSERVATIONS: Registry[type[Observation]] = Registry("observation", "mubench_ray.observations")
Looking = TypeVar("Looking", bound=Observation)


def observation(name: str, *aliases: str, title: str, cites: str = "") -> Callable[[type[Looking]], type[Looking]]:
    """Class decorator that registers an observation under ``name``; ``title`` is the line of it in lists."""

    def register(cls: type[Looking]) -> type[Looking]:
        if not cls.gives:
            raise MubenchError(f"observation {name}: name what it gives, the arrays that metrics read, in ``gives``.")
        cls.name, cls.title, cls.cites = name, title, cites
        OBSERVATIONS.add(name, cls, aliases)
        return cls

    return register


def refusal(kind: type[Observation], task: type[Task], retrainable: bool) -> str | None:
    """Why an observation cannot be made on a task, with or without networks trained here, or None."""
    if reason := kind.refusal(task):
        return reason
    if not retrainable and (lacking := [need for need in kind.needs if need != "original"]):
        return f"{kind.name} needs {' and '.join(lacking)}, and {task.name} from a checkpoint has none"
    return None
