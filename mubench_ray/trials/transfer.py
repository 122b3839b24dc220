"""Transfer: what unlearning does to the score on shifted test sets (MU-Bench), seen from the original of the trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from mubench_ray.tasks import Splits
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import evaluate
from mubench_ray.trials.artifacts import Artifact
from mubench_ray.trials.originals import flatten, shifted_rows

#: What is kept of a set, and from which of its observations it is the mean.
KEPT = {"accuracy": "correct", "loss": "loss"}


@dataclass
class Transfer:
    """The shifted test sets by name, and what the original does on every example of them (``shifted_<set>_<column>``)."""

    rows: dict[str, Rows] = field(default_factory=dict)
    original: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, original: Artifact, data: UnlearningData, splits: Splits) -> Transfer:
        """From what is stored with the original; observed now where its artifact was made without these sets."""
        rows = shifted_rows(splits)
        sizes = {name: len(original.observed.get(f"{name}_correct", ())) for name in rows}
        if all(sizes[name] == len(each) for name, each in rows.items()):
            return cls(rows, original.observed)
        network = original.load_into(data.model.build(data.task)).to(data.device)
        return cls(rows, flatten({name: evaluate(network, data, each) for name, each in rows.items()}))

    def measure(self, network: nn.Module, data: UnlearningData) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """What ``transfer_difference`` reads, all sets together; and of every set the mean score and loss of f_U and of the original,
        as ``transfer_<set>_accuracy`` and ``transfer_<set>_original_accuracy``."""
        arrays: dict[str, list[np.ndarray]] = {"shifted_correct": [], "original_shifted_correct": []}
        means: dict[str, float] = {}
        for name, rows in self.rows.items():
            observed = evaluate(network, data, rows)
            arrays["shifted_correct"].append(observed["correct"])
            arrays["original_shifted_correct"].append(self.original[f"{name}_correct"])
            own = name.removeprefix("shifted_")
            for kept, column in KEPT.items():
                means[f"transfer_{own}_{kept}"] = float(observed[column].mean())
                means[f"transfer_{own}_original_{kept}"] = float(self.original[f"{name}_{column}"].mean())
        return {name: np.concatenate(parts) for name, parts in arrays.items() if parts}, means


def transfer_column(values: Mapping[str, Any], metrics: list[str]) -> str | None:
    """The per-set means as the JSON of the ``transfer`` column; None where a task has no shifted sets."""
    means = {name: value for name, value in values.items() if name.startswith("transfer_") and name not in metrics}
    return json.dumps(means, sort_keys=True) if means else None
