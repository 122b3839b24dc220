"""A job: one piece of a run's work, as the driver hands it out and a worker takes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mubench_ray.trial import Recipe, Trial
from mubench_ray.trials.observing import Wanted


@dataclass(frozen=True)
class Job:
    """An artifact to be made (``content`` is its recipe), a trial to be run, or a trial that has its row and is to be looked at for more.

    ``part`` is the part of the results folder that its row belongs to; ``observations`` are the ids of what a trial with a row is to be looked at for.
    """

    kind: Literal["artifact", "trial", "observation"]
    content: Recipe | Trial
    part: str = ""
    observations: tuple[str, ...] = ()

    @classmethod
    def observing(cls, trial: Trial, wanted: Iterable[Wanted]) -> Job:
        """To look at a trial that has its row."""
        return cls("observation", trial, observations=tuple(each.id for each in wanted))

    @property
    def name(self) -> str:
        """What it is told apart by: the id of its artifact or trial; a trial that has its row has another name than one that is to be run, and so has one of a
        search, which may be reported too."""
        if self.kind == "observation":
            return observing_name(self.content.id)
        return searching_name(self.content.id) if self.part else self.content.id

    @property
    def label(self) -> str:
        """What kind of thing it makes: ``trial``, ``observation``, or the kind of its artifact, ``retrain`` say."""
        return self.content.kind if isinstance(self.content, Recipe) else self.kind

    def to_json(self) -> str:
        """Everything of it, for another process."""
        told = {"kind": self.kind, "part": self.part, "observations": self.observations}
        return json.dumps(told | {"content": self.content.model_dump(mode="json")})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What ``to_json`` told."""
        told = json.loads(text)
        kind = Recipe if told["kind"] == "artifact" else Trial
        content = kind.model_validate(told["content"])
        return cls(told["kind"], content, told["part"], tuple(told["observations"]))


def observing_name(trial_id: str) -> str:
    """The name of the job that looks at a trial which has its row."""
    return f"{trial_id}+"


def searching_name(trial_id: str) -> str:
    """The name of the job that runs a trial for a search."""
    return f"search-{trial_id}"
