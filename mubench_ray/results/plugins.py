"""Plugins that the suite of a results folder names: told, never loaded. A results folder may be anybody's, and a plugin is code."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mubench_ray.errors import UnknownName
from mubench_ray.results.store import Store


def plugins_of(root: str | Path) -> list[str]:
    """The plugin files that ``suite.json`` of a results folder names; none where it names none or cannot be read."""
    plugins = Store(root).read_object("suite.json").get("plugins")
    return [plugin for plugin in plugins if isinstance(plugin, str)] if isinstance(plugins, list) else []


@contextmanager
def plugins_told(*roots: str | Path) -> Iterator[None]:
    """An UnknownName raised within says, too, which plugins the suites of these results folders name, and how to load them."""
    try:
        yield
    except UnknownName as error:
        for root in roots:
            if plugins := plugins_of(root):
                options = " ".join(f"--plugin {shlex.quote(plugin)}" for plugin in plugins)
                raise UnknownName(
                    f"{error} The suite of {root} had plugins. They are code, which a results folder never runs: read them, then say {options}"
                ) from error
        raise
