"""SuperLoss: a curriculum over the per-example loss (Castells, Weinzaepfel & Revaud 2020), as MU-Bench wraps every method with it."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import lambertw
from torch import Tensor


class SuperLoss:
    """(l - tau) sigma + lambda (log sigma)^2 with the optimal confidence sigma, so that hard examples weigh less.

    sigma = exp(-W(max(-1/e, (l - tau) / (2 lambda)))), W the Lambert function; tau is the running mean of all losses seen. The gradient
    with respect to l is sigma. MU-Bench: lambda = 10.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.total, self.count = 0.0, 0

    def __call__(self, losses: Tensor) -> Tensor:
        """The SuperLoss of each example, (B,)."""
        detached = losses.detach()
        self.total += float(detached.sum())
        self.count += len(losses)
        tau = self.total / self.count
        half_beta = ((detached - tau) / (2 * self.strength)).double().cpu().numpy()
        # The library returns NaN a rounding error below the branch point -1/e, where W is -1.
        w = np.nan_to_num(lambertw(half_beta.clip(min=-1 / math.e)).real, nan=-1.0)
        log_sigma = -torch.from_numpy(w).to(losses)
        return (losses - tau) * log_sigma.exp() + self.strength * log_sigma**2

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps: all that tau is made of."""
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self.total, self.count = state["total"], state["count"]
