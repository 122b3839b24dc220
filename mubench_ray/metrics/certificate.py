"""What a certified method guarantees: its own claim, that follows from how it was run, where forgetting quality measures."""

from __future__ import annotations

from mubench_ray.metrics.base import metric

CITES = "as defined in Guo et al. 2020, arXiv 1911.03030; the method's own paper proves it"


@metric("certified_epsilon", direction="lower", cites=CITES, heading="certified epsilon")
def certified_epsilon(certificate_epsilon: float) -> float:
    """The epsilon that the method guarantees of f_U at its ``certified_delta``; none where it, or the run that its budget left it, guarantees nothing."""
    return certificate_epsilon


@metric("certified_delta", direction="lower", high=1.0, cites=CITES, heading="certified delta")
def certified_delta(certificate_delta: float) -> float:
    """The delta at which ``certified_epsilon`` is guaranteed."""
    return certificate_delta
