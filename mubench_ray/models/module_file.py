"""A network from a file of one's own, ``module:net.py:make_network``: any function that returns a torch module for a number of classes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mubench_ray.errors import MubenchError, did_you_mean, one_line
from mubench_ray.models.base import MODELS, Model
from mubench_ray.models.own_network import OwnPictures, arguments_of, first_argument
from mubench_ray.models.tokenizer import Reader
from mubench_ray.registry import Family, load_plugin
from mubench_ray.tasks.base import Columns, Task
from mubench_ray.trial import canonical

#: What the inputs of each modality are.
MODALITIES = ("image", "text", "speech", "video")
#: Pieces of the tokenizer that is trained on D for a network that reads text.
VOCABULARY = 8000


class FactoryNetwork(OwnPictures):
    """``FACTORY(num_classes=...)`` of a file; of ``channels``, ``size``, ``samples``, ``frames``, ``vocabulary``, ``max_length`` and ``class_names`` it is
    given those that it takes by name. The first argument of the network's forward is the batch: pictures or clips, normalised by the task's mean and
    standard deviation, float32; recordings in -1..1, float32; or the tokens of texts, int64, by a tokenizer that is trained on D, with ``attention_mask``
    where forward takes one. It returns logits (B, classes), or what has them as ``logits``."""

    family = "module"
    citation = "the user's own"
    modality = "image, text, speech or video"
    channels = None
    #: A network of anybody's may look at the values of its inputs.
    counted_on = "cpu"

    def __init__(self, name: str, path: Path, factory: str, make: Callable[..., Any], defined_in: str) -> None:
        self.name, self.path, self.factory, self.make = name, path, factory, make
        self.defined_in = defined_in

    def refusal(self, task: type[Task]) -> str | None:
        """Why it cannot serve a task, or None."""
        if task.modality not in MODALITIES:
            return f"model {self.label} reads {self.modality}, task {task.name} is {task.modality}"
        if task.kind not in self.kinds:
            return f"model {self.label} does classification, task {task.name} is {task.kind}"
        return None

    def made(self, task: Task) -> nn.Module:
        """What the factory returns for a task; raises MubenchError where that is no network."""
        offered = {
            "num_classes": getattr(task, "classes", None),
            "class_names": getattr(task, "class_names", ()),
            "vocabulary": VOCABULARY,
        }
        offered |= {
            name: getattr(task, name)
            for name in ("channels", "size", "samples", "frames", "max_length")
            if hasattr(task, name)
        }
        where = f"{self.path}: {self.factory}"
        given = arguments_of(self.make, offered)
        if "num_classes" not in given:
            raise MubenchError(
                f"{where} takes no argument num_classes: it is called as {self.factory}(num_classes=...)."
            )
        try:
            network = self.make(**given)
        except (MemoryError, torch.OutOfMemoryError, MubenchError):
            raise
        except Exception as error:  # somebody's code
            told = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise MubenchError(f"{where}({told}) failed: {one_line(error)}") from error
        if not isinstance(network, nn.Module):
            raise MubenchError(f"{where} returned {type(network).__name__}, not a torch.nn.Module.")
        return network

    @functools.cached_property
    def _inputs(self) -> dict[tuple[str, int], tuple[str, bool]]:
        return {}

    def inputs_of(self, task: Task) -> tuple[str, bool]:
        """The name of the first argument of the network's forward, and whether it takes ``attention_mask``."""
        key = (task.name, getattr(task, "classes", 0))
        if key not in self._inputs:
            with torch.random.fork_rng(devices=[]):
                network = self.made(task)
            self._inputs[key] = (
                first_argument(network),
                "attention_mask" in arguments_of(network.forward, {"attention_mask": True}),
            )
        return self._inputs[key]

    def encode(self, task: Any, columns: Columns) -> Columns:
        """The inputs, under the name of the first argument of the network's forward."""
        argument, takes_mask = self.inputs_of(task)
        if task.modality == "text":
            return self._tokens(task, columns["text"], argument, takes_mask)
        if task.modality == "speech":
            return {argument: columns["waveform"].float() / 32768}
        if task.modality == "video":
            video = columns["video"]
            mean, std = (torch.tensor(each, device=video.device).view(-1, 1, 1) * 255 for each in (task.mean, task.std))
            return {argument: (video.float() - mean) / std}
        [pixels] = super().encode(task, columns).values()
        return {argument: pixels}

    def _tokens(self, task: Any, numbers: torch.Tensor, argument: str, takes_mask: bool) -> Columns:
        length = task.max_length
        if numbers.is_meta:
            ids = torch.zeros(len(numbers), length, dtype=torch.int64, device="meta")
            mask = torch.ones_like(ids)
        else:
            table = Reader(VOCABULARY, task.markers).tokens(task.name, task.texts, length)
            ids, lengths = (part[numbers.cpu()].to(numbers.device) for part in table[:2])
            ids, mask = ids.long(), (torch.arange(length, device=numbers.device) < lengths.unsqueeze(1)).long()
        return {argument: ids, **({"attention_mask": mask} if takes_mask else {})}

    def check(self, task: Any, finished: bool = False) -> None:
        """As of every network, and for an original that reads text: the tokenizer here is trained on D, and gives other numbers than its own did."""
        super().check(task, finished)
        if finished and task.modality == "text":
            raise MubenchError(
                f"model {self.label}: an original that reads text needs the tokenizer that it was trained with, and a file of weights has none: its network "
                "would be given other numbers. Save it as a folder of transformers and name that (hf:FOLDER with original: FOLDER), or let it be trained here."
            )


def _open(told: str) -> tuple[str, Model]:
    if told.startswith("{"):
        options = json.loads(told)
        file, factory = options.get("path", ""), options.get("factory", "")
    else:
        file, _, factory = told.rpartition(":")
    if not file or not factory:
        raise MubenchError(
            f"model module:{told}: say the file and the function that makes the network: module:net.py:make_network."
        )
    path = Path(file)
    module = load_plugin(path)
    make = getattr(module, factory, None)
    if not callable(make):
        known = [name for name, thing in vars(module).items() if callable(thing) and not name.startswith("_")]
        raise MubenchError(f"{path}: has no function {factory!r}. {did_you_mean(factory, known)}")
    told = canonical({"called": f"{path.stem}.{factory}", "factory": factory, "path": str(file)})
    return told, FactoryNetwork(f"module:{told}", path, factory, make, module.__name__)


MODELS.add_family(
    Family(
        "module",
        "FILE.py:FACTORY",
        "A network that a function in a file of yours makes",
        FactoryNetwork.__doc__ or "",
        _open,
    )
)
