"""Whether a checkpoint numbers its classes as the task does, told by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from mubench_ray.errors import MubenchError

#: Names that say a number and nothing else, as transformers gives them.
NUMBERED = re.compile(r"(?:label|class)?[ _-]*(\d+)", re.IGNORECASE)


class Labels(NamedTuple):
    """``order[c]`` is the checkpoint's number of the task's class c, None where they are the same; ``said`` is what the plan tells of it, None for nothing;
    ``refused`` why they are not the task's classes, or None."""

    order: list[int] | None = None
    said: str | None = None
    refused: str | None = None


def compare(id2label: Mapping[Any, Any] | None, task: Any) -> Labels:
    """A checkpoint's names of its classes against the task's (``class_names``, and ``class_synonyms`` for what others call them)."""
    named = {int(number): str(name) for number, name in (id2label or {}).items()}
    theirs = [named.get(number, "") for number in range(len(named))]
    ours = list(task.class_names)
    if not theirs or len(theirs) != task.classes:
        return Labels(
            refused=f"{len(theirs)} classes {listed(theirs)} are not {task.name}'s {task.classes} {listed(ours)}"
            if theirs
            else None
        )
    known = {plain(name): plain(to) for name, to in task.class_synonyms.items()}
    read = [known.get(plain(name), plain(name)) for name in theirs]
    wanted = [plain(name) for name in ours]
    if read == wanted:
        return Labels()
    if wanted and sorted(read) == sorted(wanted):
        order = [read.index(name) for name in wanted]
        return Labels(order, f"classes are numbered as {listed(theirs)}: reordered to {task.name}'s {listed(ours)}")
    numbers = [match and int(match[1]) for match in map(NUMBERED.fullmatch, theirs)]
    if numbers == list(range(len(theirs))):
        return Labels(
            said=f"classes have no names ({theirs[0]}, ...): they are taken to be {task.name}'s, in its order {listed(ours)}"
        )
    if not ours:
        return Labels(said=f"{task.name} does not name its classes: {listed(theirs)} are taken to be its 0, 1, ...")
    return Labels(refused=f"classes {listed(theirs)} are not {task.name}'s {listed(ours)}")


def plain(name: str) -> str:
    """A name without case, and with one blank for what joins words."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def listed(names: list[str]) -> str:
    """Names in brackets, the first dozen of them."""
    shown = names if len(names) <= 12 else [*names[:11], "..."]
    return f"({', '.join(shown)})"


def output_layer(network: Any, classes: int) -> nn.Linear:
    """The layer that gives the logits: the last linear one outside the body, whatever it is called. Raises MubenchError where that has another number of
    outputs, or there are several heads."""
    body = f"{network.base_model_prefix}."
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    layers = {name: layer for name, layer in layers.items() if not name.startswith(body)}
    heads = {name.split(".")[0] for name, layer in layers.items() if layer.out_features == classes}
    last = [*layers.values()][-1:]
    if not last or last[0].out_features != classes or len(heads) > 1:
        raise MubenchError(
            f"{type(network).__name__}: no linear layer of {classes} outputs, and only one, ends it, so its classes cannot be reordered."
        )
    return last[0]


def reorder(layer: nn.Linear, order: list[int]) -> None:
    """Put the rows of an output layer into the task's order."""
    for parameter in (layer.weight, layer.bias):
        if parameter is not None and not parameter.is_meta:
            parameter.data = parameter.data[order].clone()
