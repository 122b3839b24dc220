"""What a sampler is: declared options, and an order of the training set in which it is forgotten.

r % is a prefix of that order, so that the sets of one seed are nested, as MU-Bench releases them. D_F is only ever drawn from the training split:
D_V and D_Test hold no position it could name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.registry import Registry
from mubench_ray.tasks.base import Task
from mubench_ray.tasks.examples import Examples
from mubench_ray.trial import ForgetSet

#: What one scoring network does on every example of D: ``loss`` (nats), ``correct`` in [0, 1], ``confidence`` (logit-scaled), ``entropy`` (nats) and
#: ``seen`` (1.0 where it was trained on the example), each float64 (N,), in the order of the training split.
Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Draw:
    """What a sampler is told beside D: the ratio in percent, a generator of its own for the forget seed, of a sampler that reads them the scores of
    each scoring network, and how long the data's own training list is, which ``source_index`` counts in (0 where that is not known)."""

    ratio: float
    rng: np.random.Generator
    scores: tuple[Scores, ...] = ()
    listed: int = 0


class Sampler(BaseModel):
    """Base of every sampler. A subclass declares its options as pydantic fields and defines ``order``; ``@sampler`` registers it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    title: ClassVar[str]
    #: Raised where the sampler draws other sets than before; enters ids once above 1.
    version: ClassVar[int] = 1
    #: Whether the set of a ratio always has exactly so many examples.
    exact: ClassVar[bool] = True

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """Positions of the training split in order of deletion, int64, each at most once."""
        raise NotImplementedError(f"{type(self).__name__} does not define order")

    def size(self, order: Tensor, train: Examples, draw: Draw) -> int:
        """How many of the order are D_F: ratio % of D; raises MubenchError where the order has fewer."""
        wanted = round(len(train) * draw.ratio / 100)
        if len(order) < wanted:
            share = 100 * len(order) / len(train)
            raise MubenchError(
                f"sampler {self.name} finds {len(order)} of {len(train)} training examples ({share:.4g} %): ratio {draw.ratio:g} asks for {wanted}."
            )
        return wanted

    @property
    def random(self) -> bool:
        """Whether another forget seed draws another set."""
        return True

    def among(self, examples: Examples) -> Tensor | None:
        """Which examples of a split, bool (N,), are of the classes, or other groups, that D_F is of; None where D_F is drawn from all of D."""
        return None

    @property
    def whole(self) -> bool:
        """Whether D_F is given by the data as a whole, so that only its own ratios can be asked for."""
        return False

    def shares(self, train: Examples) -> list[float]:
        """The ratios of what the data gives, in percent, rising: one of a class, several where it gives several sets."""
        raise NotImplementedError(f"{type(self).__name__} takes a whole and does not define shares")

    @property
    def drawn_to_plan(self) -> bool:
        """Whether only the data says which ratios it can draw: a plan then draws every one of them."""
        return False

    def lists(self) -> str | None:
        """A hash of everything that it reads at any ratio, where that is another file for each; None for most."""
        return None

    def refusal(self, task: type[Task], ratio: float) -> str | None:
        """Why it cannot draw D_F of a ratio on a task, as far as that is known without the data, or None."""
        return None

    def prepared(self, ratio: float) -> Sampler:
        """The sampler with what it knows of its sources when it is planned (the hash of a file); raises MubenchError where one is missing."""
        return self

    @classmethod
    def configure(cls, given: Mapping[str, Any]) -> Sampler:
        """The sampler with these options; raises MubenchError for one that it has not, and for a value that does not validate."""
        for option in given:
            if option not in cls.model_fields:
                known = did_you_mean(option, cls.model_fields) if cls.model_fields else "It has none."
                raise MubenchError(f"sampler {cls.name} has no option {option!r}. {known}")
        try:
            return cls(**given)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"]))
            if fault["type"] == "missing":
                raise MubenchError(f"sampler {cls.name} needs its option {key}.") from None
            message = fault["msg"].removeprefix("Value error, ").removesuffix(".")
            where = f"sampler {cls.name}: {key} = {fault['input']!r}" if key else f"sampler {cls.name}"
            raise MubenchError(f"{where}: {message}.") from None

    @property
    def options(self) -> dict[str, Any]:
        """The options that are not at their default, as plain data: what a forget set says."""
        return self.model_dump(mode="json", exclude_defaults=True)


def percent(part: int, size: int) -> float:
    """A share in percent, of four digits."""
    return float(f"{100 * part / size:.4g}")


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", "mubench_ray.forget")
Drawing = TypeVar("Drawing", bound=Sampler)


def sampler(name: str, *aliases: str, title: str) -> Callable[[type[Drawing]], type[Drawing]]:
    """Class decorator: register the class under ``name``; ``title`` is the one line that ``mubench list samplers`` shows."""

    def register(cls: type[Drawing]) -> type[Drawing]:
        cls.name, cls.title = name, title
        SAMPLERS.add(name, cls, aliases)
        return cls

    return register


def configured(forget: ForgetSet) -> Sampler:
    """The sampler of a forget set with its options; raises UnknownName, and MubenchError for an option that it has not."""
    return SAMPLERS.get(forget.sampler).configure(forget.options)
