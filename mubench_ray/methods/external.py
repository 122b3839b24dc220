"""External: a network that was unlearned elsewhere, as `mubench eval` adds it to a suite's results."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from mubench_ray.errors import MubenchError
from mubench_ray.methods.base import METHODS, Context, Method, Phase, Space
from mubench_ray.trial import EXTERNAL


@dataclasses.dataclass(frozen=True)
class Hash(Space):
    """A hash of weights."""

    def check(self, name: str, value: Any) -> str:
        """The hash; raises MubenchError for anything else."""
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{12}", value):
            raise MubenchError(f"{name} = {value!r} is no hash of weights: `mubench eval` says it.")
        return value


@dataclasses.dataclass(frozen=True)
class External(Method):
    """Any network of the suite's model: what was done to it, and what that cost, is not known."""

    uses_lr = False
    weights: str = dataclasses.field(default="", metadata={"space": Hash("choice", choices=("",), searched=False)})

    @classmethod
    def configure(cls, given: Mapping[str, Any]) -> Method:
        """The method of the network with these weights; raises MubenchError in a suite, which cannot make one."""
        if not given.get("weights"):
            raise MubenchError(
                "method external is a network from elsewhere: `mubench eval SUITE --model WEIGHTS --forget LIST` adds it to results."
            )
        return super().configure(given)

    def phases(self, ctx: Context) -> list[Phase]:
        """None: raises MubenchError, since nobody here knows how it was made."""
        raise MubenchError(
            f"the network with the weights {self.weights} was unlearned elsewhere and is not kept here: evaluate it again with `mubench eval`."
        )


External.name, External.title, External.cites = EXTERNAL, "External", "a network unlearned elsewhere"
METHODS.add(EXTERNAL, External, listed=False)
