"""What ``mubench list`` says: one line a thing, or all about one."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mubench_ray.errors import UnknownName, flat
from mubench_ray.kinds import named, registries
from mubench_ray.metrics import GroupMetric
from mubench_ray.registry import Family
from mubench_ray.trial import own_name

#: What makes a name a pattern.
WILD = set("*?[")


class Line(NamedTuple):
    """A thing in one line: its kind, its name, what is first to know of it, and its title."""

    kind: str
    name: str
    facts: str
    title: str


def lines(kinds: list[str], pattern: str = "*") -> list[Line]:
    """A line for everything of these kinds whose name the pattern (``*``, ``?``, ``[...]``) fits; raises UnknownName where none does."""
    found = [
        Line(kind, name, *(flat(text) for text in BRIEF[kind](thing)))
        for kind in kinds
        for name, thing in _things(kind)
        if fnmatch.fnmatchcase(name.lower(), pattern.lower())
    ]
    found += [
        Line(kind, f"{name}:{family.form}", "your own", flat(family.title))
        for kind in kinds
        for name, family in _families(kind).items()
        if fnmatch.fnmatchcase(name.lower(), pattern.lower())
    ]
    if not found:
        raise UnknownName(f"No name of the {' and '.join(kinds)} fits {pattern!r}.")
    return found


def details(kinds: list[str], name: str) -> dict[str, dict[str, str]]:
    """All about what is called so, by kind; raises UnknownName with the nearest names of all kinds."""
    found = {}
    for kind in kinds:
        if family := _families(kind).get(name):
            said = {kind.removesuffix("s"): f"{name}:{family.form}"} | _family(family)
            found[kind] = {label: " ".join(str(value).split()) for label, value in said.items() if value}
    for kind, known in named(name, kinds).items() if not found else ():
        thing = next(registry.get(known) for registry in registries(kind) if known in registry)
        said = {kind.removesuffix("s"): own_name(known)} | DETAILS[kind](thing)
        found[kind] = {label: " ".join(str(value).split()) for label, value in said.items() if value not in (None, "")}
    return found


def in_columns(found: list[Line], width: int | None) -> Iterator[str]:
    """The lines, their columns one under the other, cut at ``width`` where there is one; a heading before each kind where there are several."""
    several = len({line.kind for line in found}) > 1
    for kind in dict.fromkeys(line.kind for line in found):
        own = [line for line in found if line.kind == kind]
        if several:
            yield f"{kind}:"
        names, facts = (max(len(line[column]) for line in own) for column in (1, 2))
        for _, name, fact, title in own:
            text = f"{'  ' * several}{name:<{names}}  {f'{fact:<{facts}}  ' if facts else ''}{title}".rstrip()
            yield text if width is None or len(text) <= width else f"{text[: width - 3].rstrip()}..."


def _things(kind: str) -> list[tuple[str, Any]]:
    return sorted((pair for registry in registries(kind) for pair in registry), key=lambda pair: pair[0])


def _families(kind: str) -> dict[str, Family[Any]]:
    return {name: family for registry in registries(kind) for name, family in registry.families().items()}


def _family(family: Family[Any]) -> dict[str, Any]:
    return {
        "title": family.title,
        "what": inspect.cleandoc(family.what),
        "options": _options(family.options) if family.options else "",
    }


def _first(text: str | None) -> str:
    return (inspect.cleandoc(text or "").splitlines() or [""])[0]


def _titled(thing: Any) -> tuple[str, str]:
    return "", thing.title


def _brief_task(task: Any) -> tuple[str, str]:
    what = task.modality if task.kind == "classification" else task.kind
    return what, task.card.title


def _brief_model(model: Any) -> tuple[str, str]:
    from mubench_ray.models.counts import kept

    known = next(iter(kept().get(model.name, {}).values()), None)
    return _short(known.parameters) if known else "", f"{model.modality}: {model.citation}"


def _brief_method(method: Any) -> tuple[str, str]:
    return method.title, _first(method.__doc__)


def _brief_metric(metric: Any) -> tuple[str, str]:
    if isinstance(metric, GroupMetric):
        return "group", metric.summary
    return "" if metric.direction == "neither" else metric.direction, metric.summary


def _brief_observation(kind: Any) -> tuple[str, str]:
    return "asked" if kind.asked else "always", kind.title


BRIEF: dict[str, Callable[[Any], tuple[str, str]]] = {
    "tasks": _brief_task,
    "models": _brief_model,
    "methods": _brief_method,
    "metrics": _brief_metric,
    "samplers": _titled,
    "observations": _brief_observation,
}


def _task(task: Any) -> dict[str, Any]:
    card = task.card
    return {
        "modality": task.modality, "kind": task.kind, "title": card.title, "what": task.__doc__,
        "sizes": " + ".join(f"{size:,} {part}" for part, size in card.sizes.items()),
        "classes": getattr(task, "classes", None), "names of classes": ", ".join(getattr(task, "class_names", ())),
        "found": "; ".join(getattr(task, "notes", ())), "shifted test sets": ", ".join(task.shifted), "licence": card.licence,
        "source": card.source, "revision": card.revision, "citation": card.citation, "traps": card.traps, "version": task.version,
    }  # fmt: skip


def _model(model: Any) -> dict[str, Any]:
    from mubench_ray.models.counts import kept
    from mubench_ray.tasks import TASKS

    counted = kept().get(model.name, {})
    counts = (
        f"on {task}: {c.parameters:,} parameters, {c.forward:.3e} FLOs forward, {c.training:.3e} a training step"
        for task, c in counted.items()
    )
    return {
        "family": model.family, "modality": model.modality, "what": type(model).__doc__,
        "tasks": ", ".join(name for name, task in TASKS if model.refusal(task) is None),
        "counts": "; ".join(counts), "hub id": model.hub,
        "revision": model.revision or ("unverified" if model.hub else None), "citation": model.citation, "version": model.version,
    }  # fmt: skip


def _short(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _method(method: Any) -> dict[str, Any]:
    taxonomy = method.taxonomy
    rates = (f"{optimizer} {rate} ({rate.source})" for optimizer, rate in method.learning_rates.items())
    defaults = (f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in method.defaults().items())
    return {
        "title": method.title, "what": method.__doc__, "corrupts": taxonomy.corrupts, "retains": taxonomy.retains,
        "measured by": taxonomy.measured_by, "parameters": taxonomy.parameters, "D_V": "uses" if method.uses_validation else "",
        "hyperparameters": ", ".join(defaults), "search space": ", ".join(f"{k} {space}" for k, space in method.spaces().items()),
        "learning rate": "; ".join(rates), "cites": method.cites,
    }  # fmt: skip


def _metric(metric: Any) -> dict[str, Any]:
    said = {"what": inspect.getdoc(metric.compute), "reads": ", ".join(metric.needs), "cites": metric.cites}
    if not isinstance(metric, GroupMetric):
        facts = {"better": metric.direction, "range": _span(metric), "ideal": metric.ideal}
        return facts | said | {"version": metric.version}
    parts = (f"{name} (better {part.direction}, {_span(part)})" for name, part in metric.parts.items())
    return {
        "of a group of trials over": ", ".join(metric.over) or "none: each by itself",
        "parts": "; ".join(parts),
        "needs at least": ", ".join(f"{least} {what}" for what, least in metric.minimum.items()),
        "options": ", ".join(f"{name} {default}" for name, default in metric.options.items()),
    } | said


def _sampler(sampler: Any) -> dict[str, Any]:
    what, options = inspect.getdoc(sampler), _options(sampler)
    return {"title": sampler.title, "what": what, "options": options, "version": sampler.version}


def _observation(kind: Any) -> dict[str, Any]:
    return {
        "title": kind.title, "what": inspect.getdoc(kind), "made": "where a suite asks for it" if kind.asked else "for every trial",
        "gives": ", ".join(kind.gives), "reads": ", ".join(kind.reads), "needs": ", ".join(kind.needs), "costs": kind.costs,
        "options": _options(kind.Options), "cites": kind.cites, "version": kind.version,
    }  # fmt: skip


def _options(declared: Any) -> str:
    fields = declared.model_fields.items()
    return ", ".join(f"{name} ({'needed' if field.is_required() else field.default})" for name, field in fields)


def _span(part: Any) -> str:
    return f"{part.low:g} .. {part.high:g}"


DETAILS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "tasks": _task,
    "models": _model,
    "methods": _method,
    "metrics": _metric,
    "samplers": _sampler,
    "observations": _observation,
}
