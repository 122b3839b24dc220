"""Networks of the transformers library: from a config without weights, or from a published checkpoint."""

from __future__ import annotations

import contextlib
import copy
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import ImageModel, Model, Served
from mubench_ray.tasks.base import ImageClassification, Task


class TransformersModel(Model[Served]):
    """A network that transformers implements.

    A subclass names the class with its head and says the config for a task. ``pretrained`` gives the same model with a
    checkpoint: its config replaces ours, its weights are what ``initial`` returns, ``build`` stays random.
    Weights are read from safetensors or GGUF only, and code from a checkpoint is never run. They are float32 here whatever the checkpoint was
    saved in. A checkpoint of another ``model_type``, or one that does not hold the whole network but its head, is refused.
    """

    #: Name of the class in transformers, and of its config.
    architecture: ClassVar[str]
    config_class: ClassVar[str]
    #: Config entries that hold for a checkpoint too.
    always: ClassVar[dict[str, Any]] = {}
    #: How the names of those tensors begin that a checkpoint of another task need not hold: the head, and what only a head reads.
    head: ClassVar[tuple[str, ...]] = ("classifier.",)
    source: str | None = None
    #: The checkpoint's own config, as its author left it.
    declared: Any = None

    @abstractmethod
    def settings(self, task: Served) -> dict[str, Any]:
        """Arguments of the config for a task, without ``num_labels``."""

    def config(self, task: Served) -> Any:
        """The config for a task: of the checkpoint where there is one, else from ``settings``."""
        import transformers

        classes = getattr(task, "classes", None)
        given = {**self.always, **({} if classes is None else {"num_labels": classes})}
        if self.source is None:
            return getattr(transformers, self.config_class)(**self.settings(task), **given)
        config = copy.deepcopy(self.declared)
        for name, value in {**given, "dtype": torch.float32}.items():
            setattr(config, name, value)
        return config

    def network_class(self) -> Any:
        """The class of its networks."""
        import transformers

        return getattr(transformers, self.architecture)

    def build(self, task: Served) -> nn.Module:
        """A network with random weights."""
        return self.network_class()(self.config(task))

    def initial(self, task: Served) -> nn.Module:
        """The checkpoint's weights, float32, with a new head where the classes differ; random weights without a checkpoint.

        Raises MubenchError where the checkpoint does not hold the rest of the network, or holds more of it.
        """
        return self.build(task) if self.source is None else self._weights(task)[0]

    def finished(self, task: Served) -> nn.Module:
        """The checkpoint as it is; raises MubenchError where it has no head for the task, or one for another number of classes."""
        network, info = self._weights(task)
        self._check_finished(task, info)
        return network

    def check(self, task: Served, finished: bool = False) -> None:
        """Raise MubenchError where ``initial``, or ``finished``, would refuse a folder; of its weights only the headers are read."""
        if self.source is not None and Path(self.source).is_dir():
            with torch.random.fork_rng(devices=[]), quiet():
                info = self._weights(task, device_map="meta")[1]
            if finished:
                self._check_finished(task, info)

    def version_for(self, task: type[Task], from_checkpoint: bool) -> int:
        """From a checkpoint one more than from random weights.

        What moved (float32, refused tokenizers and tensors) moved for some checkpoints only, but which they are cannot be known of a hub id without
        downloading it, and an id must be the same on every machine.
        """
        return self.version + from_checkpoint

    def _weights(self, task: Served, **options: Any) -> tuple[Any, dict[str, Any]]:
        """The checkpoint's network for a task, of the class that ``architecture`` names, with a new head where the classes differ; and what of the head
        the checkpoint does not hold."""
        given = {"dtype": torch.float32, "use_safetensors": True, "ignore_mismatched_sizes": True, **options}
        given.setdefault("config", self.config(task))
        network, info = self._published(self.network_class(), **given, output_loading_info=True)
        self._check_whole(network, info)
        return network, info

    def _check_whole(self, network: Any, info: dict[str, Any]) -> None:
        """Raise MubenchError where tensors outside the head are not in the checkpoint, have another shape there, or have no place in the network."""
        prefix = f"{network.base_model_prefix}."
        backbone = {name for name, _ in getattr(network, network.base_model_prefix, network).named_children()}
        missing, reshaped = absent(info)
        faults = {
            "it lacks": missing,
            "it has in another shape": reshaped,
            # What a checkpoint holds of other heads is left aside.
            "the network has no place for": [
                name
                for name in meant(info["unexpected_keys"])
                if name.removeprefix(prefix).partition(".")[0] in backbone
            ],
        }
        outside = {what: [name for name in names if not name.startswith(self.head)] for what, names in faults.items()}
        said = [f"{what} {len(names)} ({_first(names)})" for what, names in outside.items() if names]
        if said:
            raise MubenchError(
                f"model {self.name}: {self.source!r} does not hold the whole {self.family} network of its config: of the tensors outside the head "
                f"{'; '.join(said)}. Save the whole network again, or name another checkpoint."
            )

    def _check_finished(self, task: Served, info: dict[str, Any]) -> None:
        missing, reshaped = absent(info)
        if lacking := [*missing, *reshaped]:
            raise MubenchError(
                f"model {self.name}: {self.source!r} is no network trained on {task.name}: it lacks {lacking[0]}, "
                f"or has it in another shape ({len(lacking)} such tensors)."
            )

    def pretrained(self, source: str | None = None, revision: str | None = None) -> TransformersModel[Served]:
        """This model from a folder, a GGUF file, a hub id at a revision, or its own published weights.

        Raises MubenchError where a hub id has no pinned revision or the checkpoint cannot be read.
        """
        source = source or self.hub
        if source is None:
            raise MubenchError(f"model {self.name} has no published weights; name a folder or a hub id.")
        revision = revision or (self.revision if source == self.hub else None)
        if revision is None and not Path(source).exists():
            raise MubenchError(
                f"model {self.name}: {source!r} is not here, and as a hub id needs a revision (id@commit), so that everyone loads the same weights."
            )
        model = copy.copy(self)
        model.source, model.revision = source, revision
        model._declare()
        model.adopt()
        return model

    def _declare(self) -> None:
        """Read the checkpoint's config; raises MubenchError where it is of another architecture or its weights are quantised."""
        import transformers

        self.declared = self._published(transformers.AutoConfig)
        own, theirs = getattr(transformers, self.config_class).model_type, self.declared.model_type
        if own != theirs:
            raise MubenchError(
                f"model {self.name}: {self.source!r} is a checkpoint of model_type {theirs!r}, and {self.name} takes {own!r} ({self.architecture}). "
                f"Name a checkpoint of {own!r}, or a model of the family of {theirs!r}."
            )
        if quantised := getattr(self.declared, "quantization_config", None):
            how = quantised.get("quant_method", quantised) if isinstance(quantised, dict) else quantised
            raise MubenchError(
                f"model {self.name}: {self.source!r} is quantised ({how}), which cannot be trained in float32. Name the weights that it was made from."
            )

    def adopt(self) -> None:
        """Take over what encoding must know of the checkpoint; called once its source and ``declared`` are set."""

    def _published(self, loader: Any, **options: Any) -> Any:
        if self.source is None:
            raise MubenchError(f"model {self.name} has no checkpoint: take its ``pretrained()``.")
        place = located(self.source, self.revision)
        if "gguf_file" in place:
            options.pop("use_safetensors", None)
        try:
            return loader.from_pretrained(**place, trust_remote_code=False, **options)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what damaged files raise is any of many, struct.error and KeyError among them
            at = f" at {self.revision}" if self.revision else ""
            raise MubenchError(
                f"model {self.name}: {self.source!r}{at} cannot be loaded from safetensors or GGUF: {reason_of(error)}"
            ) from error


#: How the names of tensors end that are computed anew or that no pass here reads: their absence and presence say nothing.
SPARE = (
    "position_ids",
    "inv_freq",
    "relative_position_index",
    "num_batches_tracked",
    "mask_token",
    "masked_spec_embed",
)


def meant(names: Iterable[str]) -> list[str]:
    """Names of tensors, sorted, without the spare ones."""
    return sorted(name for name in names if not name.endswith(SPARE))


def absent(info: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the tensors that a checkpoint lacks, and of those that it has in another shape; ``info`` is what transformers said in loading it."""
    return meant(info["missing_keys"]), meant(name for name, *_ in info["mismatched_keys"])


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own report of what it loaded."""
    from transformers import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def reason_of(error: BaseException) -> str:
    """What an exception of a library says, as one line of at most 400 characters, with its name where it says little."""
    text = " ".join(str(error).split())
    named = (
        text if isinstance(error, (OSError, ValueError, ImportError)) and text else f"{type(error).__name__}: {text}"
    )
    return named if len(named) <= 400 else f"{named[:397]}..."


def located(source: str, revision: str | None) -> dict[str, Any]:
    """A checkpoint as arguments of ``from_pretrained``: a folder, a GGUF file (tensors and numbers, no code), or a hub id at a revision."""
    path = Path(source)
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": source, "revision": None if path.is_dir() else revision}


class TransformersImageModel(TransformersModel[ImageClassification], ImageModel):
    """An image network of transformers; checkpoints say their own image size and read three channels."""

    def input_channels(self, task: ImageClassification) -> int:
        """Channels that the network reads."""
        return self.channels or task.channels

    def adopt(self) -> None:
        """Resize to the checkpoint's image size and repeat grey pictures to its channels."""
        self.channels = getattr(self.declared, "num_channels", 3)
        size = getattr(self.declared, "image_size", None)
        self.image_size = size if isinstance(size, int) else self.image_size
