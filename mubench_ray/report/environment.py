"""How every page of ours is made of its template."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mubench_ray.errors import harmless


def environment() -> Environment:
    """The templates: what they show is text without markup and without what steers, other than what is HTML already."""
    made = Environment(
        loader=PackageLoader("mubench_ray.report"),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    made.filters["code"] = _code
    return made


def _code(text: str, root: str) -> Markup:
    """Words between backquotes as code, in which ROOT is the folder."""
    parts = [escape(_plain(part.replace("ROOT", root))) for part in text.split("`")]
    return Markup("".join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)))


def _plain(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value
