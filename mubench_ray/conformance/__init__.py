"""The conformance suites: what every thing of a kind is held to, and the benches they run on.

The suite of a kind is the file of its name here, with ``check(name)`` that yields findings: ``methods.py``, ``tasks.py``, ``models.py``,
``metrics.py``, ``samplers.py``, ``observations.py``. Another kind's is found by being there.

>>> from mubench_ray.conformance import check_method
>>> [finding.name for finding in check_method("ft") if not finding.ok]  # doctest: +SKIP
[]
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from mubench_ray.conformance.findings import Finding, guarded
from mubench_ray.conformance.methods import accepts, check_method, shortest
from mubench_ray.kinds import named

__all__ = ["Finding", "accepts", "check", "check_method", "guarded", "shortest"]


def check(name: str) -> dict[tuple[str, str], list[Finding]]:
    """Hold what is called so to the suite of its kind: findings by kind and canonical name; several where kinds share a name.

    Raises UnknownName where nothing is called so.
    """
    return {
        (kind, known): list(guarded(partial(import_module(f"{__name__}.{kind}").check, known)))
        for kind, known in named(name).items()
    }
