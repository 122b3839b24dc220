"""Networks of the transformers library: from a config without weights, or from a published checkpoint."""

from __future__ import annotations

import copy
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import ImageModel, Model
from mubench_ray.tasks.base import Task


class TransformersModel(Model):
    """A network that transformers implements.

    A subclass names the class with its head and says the config for a task. ``pretrained`` gives the same model with a
    checkpoint: its config replaces ours, its weights are what ``initial`` returns, ``build`` stays random.
    Weights are read from safetensors or GGUF only, and code from a checkpoint is never run.
    """

    #: Name of the class in transformers, and of its config.
    architecture: ClassVar[str]
    config_class: ClassVar[str]
    #: Config entries that hold for a checkpoint too.
    always: ClassVar[dict[str, Any]] = {}
    source: str | None = None

    @abstractmethod
    def settings(self, task: Task) -> dict[str, Any]:
        """Arguments of the config for a task, without ``num_labels``."""

    def config(self, task: Task) -> Any:
        """The config for a task: of the checkpoint where there is one, else from ``settings``."""
        import transformers

        labels = {"num_labels": task.classes} if hasattr(task, "classes") else {}
        if self.source is not None:
            return self._published(transformers.AutoConfig, **self.always, **labels)
        return getattr(transformers, self.config_class)(**self.settings(task), **self.always, **labels)

    def build(self, task: Task) -> nn.Module:
        """A network with random weights."""
        import transformers

        return getattr(transformers, self.architecture)(self.config(task))

    def initial(self, task: Task) -> nn.Module:
        """The checkpoint's weights, with a new head where the classes differ; random weights without a checkpoint."""
        return self.build(task) if self.source is None else self._weights(task)[0]

    def finished(self, task: Task) -> nn.Module:
        """The checkpoint as it is; raises MubenchError where it has no head for the task, or one for another number of classes."""
        network, info = self._weights(task)
        lacking = sorted(info["missing_keys"]) + sorted(mismatch[0] for mismatch in info["mismatched_keys"])
        if lacking:
            raise MubenchError(
                f"model {self.name}: {self.source!r} is no network trained on {task.name}: it lacks {lacking[0]}, "
                f"or has it in another shape ({len(lacking)} such tensors)."
            )
        return network

    def _weights(self, task: Task) -> tuple[nn.Module, dict[str, Any]]:
        """The checkpoint's network for a task, with a new head where the classes differ, and what of it the checkpoint does not hold."""
        import transformers

        options = {"config": self.config(task), "use_safetensors": True, "ignore_mismatched_sizes": True}
        return self._published(getattr(transformers, self.architecture), output_loading_info=True, **options)

    def pretrained(self, source: str | None = None, revision: str | None = None) -> TransformersModel:
        """This model from a folder, a GGUF file, a hub id at a revision, or its own published weights.

        Raises MubenchError where a hub id has no pinned revision or the checkpoint cannot be read.
        """
        source = source or self.hub
        if source is None:
            raise MubenchError(f"model {self.name} has no published weights; name a folder or a hub id.")
        revision = revision or (self.revision if source == self.hub else None)
        if revision is None and not Path(source).exists():
            raise MubenchError(
                f"model {self.name}: the hub id {source!r} needs a revision (a commit hash), so that everyone loads the same weights."
            )
        model = copy.copy(self)
        model.source, model.revision = source, revision
        model.adopt()
        return model

    def adopt(self) -> None:
        """Take over what encoding must know of the checkpoint; called once its source is set."""

    def _published(self, loader: Any, **options: Any) -> Any:
        place = located(self.source, self.revision)
        if "gguf_file" in place:
            options.pop("use_safetensors", None)
        try:
            return loader.from_pretrained(**place, trust_remote_code=False, **options)
        except (OSError, ValueError, ImportError) as error:
            at = f" at {self.revision}" if self.revision else ""
            reason = " ".join(str(error).split())
            raise MubenchError(
                f"model {self.name}: {self.source!r}{at} cannot be loaded from safetensors or GGUF: {reason}"
            ) from error


def located(source: str, revision: str | None) -> dict[str, Any]:
    """A checkpoint as arguments of ``from_pretrained``: a folder, a GGUF file (tensors and numbers, no code), or a hub id at a revision."""
    path = Path(source)
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": source, "revision": None if path.is_dir() else revision}


class TransformersImageModel(TransformersModel, ImageModel):
    """An image network of transformers; checkpoints say their own image size and read three channels."""

    def input_channels(self, task: Task) -> int:
        """Channels that the network reads."""
        return self.channels or task.channels

    def adopt(self) -> None:
        """Resize to the checkpoint's image size and repeat grey pictures to its channels."""
        import transformers

        config = self._published(transformers.AutoConfig)
        self.channels = getattr(config, "num_channels", 3)
        size = getattr(config, "image_size", None)
        self.image_size = size if isinstance(size, int) else self.image_size
