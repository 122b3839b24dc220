"""Distances between what two models predict: ZRF against an incompetent teacher, and the knowledge gap of KGA."""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric


def kl_divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row, nats, (N,), from log-probabilities (N, K); classes without mass in p count nothing."""
    mass = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        return np.where(mass > 0, mass * (log_p - log_q), 0.0).sum(-1)


def js_divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of each row in bits, (N,), from log-probabilities (N, K); in [0, 1]."""
    log_mixture = np.logaddexp(log_p, log_q) - np.log(2)
    nats = (kl_divergence(log_p, log_mixture) + kl_divergence(log_q, log_mixture)) / 2
    return np.clip(nats / np.log(2), 0.0, 1.0)


@metric("zrf", direction="neither", high=1.0, cites="Chundawat et al. 2023, arXiv 2205.08096")
def zrf(forget_log_probs: np.ndarray, incompetent_forget_log_probs: np.ndarray) -> float:
    """Zero-retrain forgetting: 1 - mean JS(f_U, incompetent teacher) on D_F, in bits; 1 is as random as the teacher.

    The retrain's own value is ideal: it knows other examples of the same classes and is far from random.
    """
    return 1 - js_divergence(forget_log_probs, incompetent_forget_log_probs).mean()


@metric("knowledge_gap", direction="lower", ideal=0.0, cites="KGA: Wang et al. 2023, ACL 2023")
def knowledge_gap(
    forget_log_probs: np.ndarray,
    forget_only_forget_log_probs: np.ndarray,
    original_extra_log_probs: np.ndarray,
    extra_only_extra_log_probs: np.ndarray,
) -> float:
    """|KL(f_U || f_F) on D_F - KL(f_O || f_N) on D_N|, nats; 0 if D_F is as foreign to f_U as unseen D_N to f_O.

    f_F is trained on D_F alone and f_N on D_N alone; all arrays are log-probabilities (examples, classes).
    """
    forgotten = kl_divergence(forget_log_probs, forget_only_forget_log_probs).mean()
    unseen = kl_divergence(original_extra_log_probs, extra_only_extra_log_probs).mean()
    return abs(forgotten - unseen)
