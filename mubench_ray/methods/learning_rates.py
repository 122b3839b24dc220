"""The learning rates of a method: for each optimiser a default and the range that a search goes through, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from mubench_ray.errors import MubenchError, did_you_mean
from mubench_ray.trial import Unlearning

#: The optimisers that a trial may name.
OPTIMIZERS: tuple[str, ...] = get_args(Unlearning.model_fields["optimizer"].annotation)


@dataclass(frozen=True)
class LearningRate:
    """``default``, what a suite's ``lrs: default`` runs, and the range from ``low`` to ``high`` that its search draws from, log-uniformly. ``source``: the
    paper, the released code or the measurement that they are from. Raises MubenchError where they are no such range."""

    default: float
    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        numbers = (self.low, self.default, self.high)
        if not all(isinstance(n, int | float) and math.isfinite(n) and n > 0 for n in numbers):
            raise MubenchError(
                f"a learning rate of {self.default!r}, range {self.low!r} to {self.high!r}, is not above 0."
            )
        if not (self.low <= self.default <= self.high and self.low < self.high):
            raise MubenchError(
                f"a learning rate of {self.default:g} does not lie in its range, {self.low:g} to {self.high:g}, from low to high."
            )
        if not self.source.strip():
            raise MubenchError(f"a learning rate of {self.default:g} does not say where it is from: name its source.")

    def __str__(self) -> str:
        return f"{self.default:g} in [{self.low:g}, {self.high:g}]"


#: Where several methods have theirs from.
DEEP_UNLEARN = "Deep Unlearn's released code (arXiv 2410.01276), which searches 1e-5 to 1e-1"
MU_BENCH = "MU-Bench's grid (arXiv 2406.14796), 1e-5 to 5e-4, and on to where networks trained from scratch were best (docs/fidelity.md)"
MEASURED = "no paper runs it so: what was best on FashionMNIST and digits (docs/fidelity.md), and a decade around"
COMMON = "no paper runs it so: the range that Deep Unlearn's released code searches for every method (arXiv 2410.01276)"

#: Of both methods of Boundary Unlearning.
BOUNDARY: Mapping[str, LearningRate] = {
    "adam": LearningRate(
        1e-5,
        1e-6,
        1e-3,
        "no paper runs it so: its authors' rate with SGD (arXiv 2303.11570), and MU-Bench's grid beyond",
    ),
    "sgd": LearningRate(
        1e-5, 1e-6, 0.01, "its released code, SGD at 1e-5 (arXiv 2303.11570): a decade below and three above"
    ),
}
#: Of a method that declares none.
GENERIC: Mapping[str, LearningRate] = {
    "adam": LearningRate(1e-4, 1e-5, 1e-2, f"generic: {MU_BENCH}"),
    "adamw": LearningRate(1e-4, 1e-5, 1e-2, f"generic: {MU_BENCH}"),
    "sgd": LearningRate(1e-2, 1e-5, 1e-1, f"generic: {DEEP_UNLEARN}"),
}


def of_all_optimizers(method: str, declared: Mapping[str, LearningRate]) -> dict[str, LearningRate]:
    """What a method declares, for every optimiser: AdamW's is Adam's unless it is declared too, and what is not declared is the generic one. Raises
    MubenchError for an optimiser that there is not, and for what is no LearningRate."""
    for name, rate in declared.items():
        if name not in OPTIMIZERS:
            raise MubenchError(
                f"method {method}: learning_rates has {name!r}, no optimiser. {did_you_mean(name, OPTIMIZERS)}"
            )
        if not isinstance(rate, LearningRate):
            raise MubenchError(
                f"method {method}: learning_rates[{name!r}] = {rate!r} is no LearningRate(default, low, high, source)."
            )
    own = dict(declared)
    if "adam" in own:
        own.setdefault("adamw", own["adam"])
    return {name: own.get(name, GENERIC[name]) for name in OPTIMIZERS}
