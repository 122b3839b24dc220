"""The conformance suite that every method is held to, and the bench it runs on.

>>> from mubench_ray.conformance import check_method
>>> [finding.name for finding in check_method("ft") if not finding.ok]  # doctest: +SKIP
[]
"""

from mubench_ray.conformance.checks import Finding, accepts, check_method, shortest

__all__ = ["Finding", "accepts", "check_method", "shortest"]
