"""Relearning on a part of D_F: copies of f_U and of its retrain are fine-tuned on a few forgotten examples; does the rest of D_F come back with them?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from mubench_ray.errors import MubenchError
from mubench_ray.observations.base import Observation, Seen, observation
from mubench_ray.observations.fine_tuning import FineTuning, watched
from mubench_ray.randomness import torch_generator
from mubench_ray.training.data import Rows

#: Fewest examples that are trained on: BatchNorm has no statistics of one.
FEWEST = 2


class Shares(FineTuning):
    """``shares`` of D_F, in percent; the smaller ones are parts of the larger."""

    shares: tuple[float, ...] = Field(default=(1, 5, 10), min_length=1)


@observation(
    "relearn_forget",
    title="Fine-tune on a part of D_F and watch the rest, beside the retrain",
    cites="Hu et al. 2025, arXiv 2406.13356; Lucki et al. 2025, arXiv 2409.18025",
)
class RelearnForget(Observation):
    """Of S shares of D_F and P steps: ``relearn_shares`` (S,), percent; ``relearn_share_steps`` (P,); ``relearn_share_accuracy`` (S, P), on the part of D_F
    that no share trains on, of f_U; ``retrain_relearn_share_accuracy`` (S, P), of f_R under the same fine-tuning."""

    gives = ("relearn_shares", "relearn_share_steps", "relearn_share_accuracy", "retrain_relearn_share_accuracy")
    reads = ("forget",)
    needs = ("retrain",)
    costs = "steps of training and a pass over D_F every few of them, twice a share"

    Options = Shares
    options: Shares

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Both networks on every share. Raises MubenchError where D_F is too small to be parted so."""
        forget, shares = seen.sets["forget"], self.options.shares
        order = torch.randperm(len(forget), generator=torch_generator("relearn_forget", seen.trial.seed))
        sizes = [max(FEWEST, round(len(forget) * share / 100)) for share in shares]
        if max(sizes) >= len(forget):
            raise MubenchError(
                f"observation relearn_forget: D_F has {len(forget)} examples, and a share of {max(shares):g} % trains on {max(sizes)} of them, which leaves "
                "none to watch. Use a smaller share or a larger forget set."
            )
        rest = Rows(forget.examples, forget.positions[order[max(sizes) :].sort().values])
        curves: dict[str, list[np.ndarray]] = {"ours": [], "retrain": []}
        for size in sizes:
            part = Rows(forget.examples, forget.positions[order[:size].sort().values])
            for name, network in (("ours", seen.copy()), ("retrain", seen.network("retrain"))):
                curves[name].append(
                    watched(seen, network, part, {"rest": rest}, self.options, "relearn_forget")["rest"]
                )
        return {
            "relearn_shares": np.array(shares, float),
            "relearn_share_steps": self.options.looked_at,
            "relearn_share_accuracy": np.stack(curves["ours"]),
            "retrain_relearn_share_accuracy": np.stack(curves["retrain"]),
        }
