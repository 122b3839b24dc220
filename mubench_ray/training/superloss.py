"""SuperLoss: a curriculum over the per-example loss (Castells, Weinzaepfel & Revaud 2020), as MU-Bench wraps every method with it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from scipy.special import lambertw
from torch import Tensor


class SuperLoss:
    """(l - tau) sigma + lambda (log sigma)^2 with the optimal confidence sigma, so that hard examples weigh less.

    sigma = exp(-W(max(-1/e, (l - tau) / (2 lambda)))), W the Lambert function; tau is the running mean of all losses seen, or (``confidence``, MU-Bench's
    code) their sum over that of their sigmas, of those before this batch, which tau decides; at first of this batch, at sigma 1. The gradient with respect to
    l is sigma. MU-Bench: lambda = 10.
    """

    def __init__(self, strength: float, tau: Literal["mean", "confidence"] = "mean") -> None:
        self.strength, self.tau = strength, tau
        self.total, self.count = 0.0, 0.0

    def __call__(self, losses: Tensor) -> Tensor:
        """The SuperLoss of each example, (B,)."""
        detached = losses.detach()
        total, count = float(detached.sum()), len(losses)
        before = self.tau == "confidence" and self.count > 0
        tau = self.total / self.count if before else (self.total + total) / (self.count + count)
        half_beta = ((detached - tau) / (2 * self.strength)).double().cpu().numpy()
        # The library returns NaN a rounding error below the branch point -1/e, where W is -1.
        w = np.nan_to_num(lambertw(half_beta.clip(min=-1 / math.e)).real, nan=-1.0)
        self.total, self.count = (
            self.total + total,
            self.count + (count if self.tau == "mean" else float(np.exp(-w).sum())),
        )
        log_sigma = -torch.from_numpy(w).to(losses)
        return (losses - tau) * log_sigma.exp() + self.strength * log_sigma**2

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps: all that tau is made of."""
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self.total, self.count = state["total"], state["count"]
