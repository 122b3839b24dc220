"""Performance on D_Test, D_F, D_R and D_V: the retrain-free metrics of MU-Bench, all in [0, 1], never in percent.

Where D_F is defined by classes, D_Test and D_V are what they hold of the others (as in SalUn's tables); what D_Test holds of
D_F's classes has an accuracy of its own, which for a class that is forgotten whole is to fall with D_F's.
"""

from __future__ import annotations

import numpy as np

from mubench_ray.metrics.base import metric

MUBENCH = "MU-Bench, arXiv 2406.14796"


@metric("test_accuracy", direction="higher", high=1.0, cites=MUBENCH, version=2, counts="test")
def test_accuracy(test_correct: np.ndarray) -> float:
    """Share of D_Test that is right; of the classes that are kept, where D_F is defined by classes."""
    return test_correct.mean()


@metric(
    "forgotten_test_accuracy",
    direction="neither",
    high=1.0,
    cites="SalUn: Fan et al. 2024, arXiv 2310.12508",
    counts="forgotten_test",
)
def forgotten_test_accuracy(forgotten_test_correct: np.ndarray) -> float:
    """Share that is right of what D_Test holds of the classes that D_F is defined by; the retrain's value is ideal."""
    return forgotten_test_correct.mean()


@metric("forget_accuracy", direction="neither", high=1.0, cites=MUBENCH, counts="forget")
def forget_accuracy(forget_correct: np.ndarray) -> float:
    """Share of D_F that is right; lower is better only down to the retrain's."""
    return forget_correct.mean()


@metric("retain_accuracy", direction="higher", high=1.0, cites=MUBENCH, counts="retain")
def retain_accuracy(retain_correct: np.ndarray) -> float:
    """Share of D_R that is right."""
    return retain_correct.mean()


@metric(
    "validation_accuracy",
    direction="higher",
    high=1.0,
    cites="Deep Unlearn, arXiv 2410.01276",
    version=2,
    counts="validation",
)
def validation_accuracy(validation_correct: np.ndarray) -> float:
    """Share of D_V that is right; of the classes that are kept, where D_F is defined by classes."""
    return validation_correct.mean()


@metric("test_loss", direction="lower", cites=MUBENCH, version=2)
def test_loss(test_loss: np.ndarray) -> float:
    """Mean loss on D_Test, nats; of the classes that are kept, where D_F is defined by classes."""
    return test_loss.mean()


@metric("forget_loss", direction="neither", cites=MUBENCH)
def forget_loss(forget_loss: np.ndarray) -> float:
    """Mean loss on D_F, nats: tells methods apart where accuracies saturate."""
    return forget_loss.mean()


@metric("retain_loss", direction="lower", cites=MUBENCH)
def retain_loss(retain_loss: np.ndarray) -> float:
    """Mean loss on D_R, nats."""
    return retain_loss.mean()
