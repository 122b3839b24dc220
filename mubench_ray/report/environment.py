"""How every page of ours is made of its template."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mubench_ray.errors import harmless


def environment() -> Environment:
    """The templates: what they show is text without markup and without what steers, other than what is HTML already."""
    return Environment(
        loader=PackageLoader("mubench_ray.report"),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


def _plain(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value
