"""The kinds of thing that are one file each, and where the things of a kind are registered."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from mubench_ray.errors import MubenchError, UnknownName
from mubench_ray.registry import Registry, fold

#: By the name that the command line has for the kind: its registries, as package and name.
KINDS = {
    "tasks": (("mubench_ray.tasks", "TASKS"),),
    "models": (("mubench_ray.models", "MODELS"),),
    "methods": (("mubench_ray.methods", "METHODS"),),
    "metrics": (("mubench_ray.metrics", "METRICS"), ("mubench_ray.metrics", "GROUP_METRICS")),
    "samplers": (("mubench_ray.forget", "SAMPLERS"),),
    "observations": (("mubench_ray.observations", "OBSERVATIONS"),),
}


def registries(kind: str) -> list[Registry[Any]]:
    """The registries of a kind; raises MubenchError for one that is none."""
    if kind not in KINDS:
        raise MubenchError(f"{kind!r} is no kind of thing: {', '.join(KINDS)} are.")
    return [getattr(import_module(package), name) for package, name in KINDS[kind]]


def named(name: str, kinds: list[str] | None = None) -> dict[str, str]:
    """The canonical name of ``name`` in each of these kinds (all where None) that knows it; raises UnknownName where none does, saying which do, or
    the nearest names of all kinds."""
    every = {kind: registries(kind) for kind in KINDS}
    found = {kind: registry.canonical(name) for kind, group in every.items() for registry in group if name in registry}
    if wanted := {kind: found[kind] for kind in kinds or KINDS if kind in found}:
        return wanted
    what = f"{kinds[0].removesuffix('s')} {name!r}" if kinds and len(kinds) == 1 else f"name {name!r}"
    if found:
        where = " and ".join(f"one of the {kind} (`mubench list {kind} {known}`)" for kind, known in found.items())
        raise UnknownName(f"Unknown {what}: it is {where}.")
    spelled = [(fold(known), known, kind) for kind, group in every.items() for known in _names(group)]
    near = difflib.get_close_matches(fold(name), [folded for folded, _, _ in spelled], n=3, cutoff=0.6)
    told = list(
        dict.fromkeys(f"{known!r} of the {kind}" for each in near for folded, known, kind in spelled if folded == each)
    )
    hint = f" Did you mean {' or '.join(told)}?" if told else ""
    listed = kinds[0] if kinds and len(kinds) == 1 else "KIND"
    raise UnknownName(f"Unknown {what}.{hint} `mubench list {listed}` names all there are.")


def _names(group: list[Registry[Any]]) -> list[str]:
    return [name for registry in group for name in registry.names()]
