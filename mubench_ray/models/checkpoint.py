"""Networks of the transformers library: from a config without weights, or from a published checkpoint."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import ImageModel, Model, Served
from mubench_ray.models.labels import Labels, compare, output_layer, reorder
from mubench_ray.models.places import adapter_of, located, quiet, reason_of, state_file
from mubench_ray.models.processor import picture_processor, refuse_pictures, unlike_pictures
from mubench_ray.models.state import SPARE, fill, first, read_state
from mubench_ray.tasks.base import Classification, ImageClassification, Task


class TransformersModel(Model[Served]):
    """A network that transformers implements.

    A subclass names the class with its head and says the config for a task. ``pretrained`` gives the same model with a
    checkpoint: its config replaces ours, its weights are what ``initial`` returns, ``build`` stays random.
    Weights are read from safetensors or GGUF, from a pickle only where that file is named (with ``weights_only``), and code from a checkpoint is never run.
    They are float32 here whatever the checkpoint was saved in. A checkpoint of another ``model_type``, or one that does not hold the whole network but its
    head, is refused. Classes that it numbers in another order than the task are put into the task's.
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
    #: Whether it is an original's form alone, and the model whose weights training then starts from, None for random ones.
    form: bool = False
    base: Model | None = None

    @abstractmethod
    def settings(self, task: Served) -> dict[str, Any]:
        """Arguments of the config for a task, without ``num_labels``."""

    def config(self, task: Served) -> Any:
        """The config for a task: of the checkpoint where there is one, else from ``settings``."""
        import transformers

        classes = getattr(task, "classes", None)
        given = {**self.always, **({} if classes is None else {"num_labels": classes})}
        if self.source is None:
            config = getattr(transformers, self.config_class)(**self.settings(task), **given)
        else:
            config = copy.deepcopy(self.declared)
            for name, value in {**given, "dtype": torch.float32}.items():
                setattr(config, name, value)
        if isinstance(task, Classification) and len(task.class_names) == classes:
            config.id2label = dict(enumerate(task.class_names))
            config.label2id = {name: number for number, name in config.id2label.items()}
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
        if self.form:
            return self.build(task) if self.base is None else self._begun(task, self.base)
        if self.source is None:
            return super().initial(task)
        return self._started(task)

    def finished(self, task: Served) -> nn.Module:
        """The checkpoint as it is; raises MubenchError where it has no head for the task, or one for another number of classes or other classes."""
        if self.original is not None or (self.source is None and self.weights is not None):
            return super().finished(task)
        network, info = self._weights(task)
        self._check_finished(task, info)
        self._refuse_labels(labels := self._labels(task, network, info))
        return self._in_order(network, task, labels)

    def _started(self, task: Served, config: Any = None) -> nn.Module:
        """The checkpoint's weights as training starts from them, perhaps in the network of another ``config``."""
        network, info = self._weights(task, config=config)
        labels = self._labels(task, network, info)
        if labels.refused:
            layer, new = (output_layer(each, task.classes) for each in (network, self.build(task)))  # pyright: ignore[reportAttributeAccessIssue]
            layer.load_state_dict(new.state_dict())
        return self._in_order(network, task, labels)

    def _begun(self, task: Served, base: Model) -> nn.Module:
        """The weights of a base in this network."""
        if isinstance(base, TransformersModel) and base.source is not None:
            return base._started(task, self.config(task))
        if base.weights is None:
            raise MubenchError(f"model {self.name} has no checkpoint: take its ``pretrained()``.")
        return fill(self.build(task), read_state(base.weights), self._where(base.weights))

    def check(self, task: Served, finished: bool = False) -> None:
        """Raise MubenchError where ``initial``, or ``finished``, would refuse a folder; of its weights only the headers are read."""
        if self.source is None or (self.original is not None and finished):
            return super().check(task, finished)
        if Path(self.source).is_dir():
            network, info = self._looked(task)
            labels = self._labels(task, network, info)
            if finished:
                self._check_finished(task, info)
                self._refuse_labels(labels)
                if isinstance(self.base, TransformersModel):
                    self.base.check(task)
        return None

    def remarks(self, task: Served, finished: bool = False) -> list[str]:
        """What the order of its classes needed."""
        if self.source is None or (self.original is not None and finished):
            return super().remarks(task, finished)
        if not Path(self.source).is_dir():
            return []
        labels = self._labels(task, *self._looked(task))
        said = f"{labels.refused}: a new head is drawn" if labels.refused else labels.said
        return [f"{self.source}: {said}"] if said else []

    def _looked(self, task: Served) -> tuple[Any, dict[str, Any]]:
        """What ``_weights`` would give, without memory."""
        with torch.random.fork_rng(devices=[]), quiet():
            return self._weights(task, device_map="meta")

    def version_for(self, task: type[Task], from_checkpoint: bool) -> int:
        """From a checkpoint more than from random weights.

        What moved (float32, refused tokenizers and tensors; of classifiers then the order of classes and the processor) moved for some checkpoints only, but
        which they are cannot be known of a hub id without downloading it, and an id must be the same on every machine.
        """
        return self.version + from_checkpoint * (2 if "classification" in self.kinds else 1)

    def _weights(self, task: Served, config: Any = None, **options: Any) -> tuple[Any, dict[str, Any]]:
        """The checkpoint's network for a task, of the class that ``architecture`` names, with a new head where the classes differ; and what of the head
        the checkpoint does not hold."""
        # Older repositories of the hub hold pickles alone: those whose commit is written here are read, by transformers with weights_only.
        safe = None if self.source == self.hub and self.weights is None else True
        given = {"dtype": torch.float32, "use_safetensors": safe, "ignore_mismatched_sizes": True, **options}
        given["config"] = config or self.config(task)
        network, info = self._published(self.network_class(), **given, output_loading_info=True)
        self._check_whole(network, info)
        return network, info

    def _labels(self, task: Served, network: Any, info: dict[str, Any]) -> Labels:
        """How its classes are the task's; nothing of a network whose output layer the checkpoint does not hold."""
        if not isinstance(task, Classification):
            return Labels()
        said = compare(getattr(self.declared, "id2label", None), task)
        try:
            weight = output_layer(network, task.classes).weight
        except MubenchError:
            if said.order is not None:
                raise
            return said
        own = next(name for name, parameter in network.named_parameters() if parameter is weight)
        if own in [*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])]:
            return Labels()
        return said

    def _in_order(self, network: Any, task: Served, labels: Labels) -> nn.Module:
        """The network with its classes in the task's order."""
        if labels.order is not None and isinstance(task, Classification):
            reorder(output_layer(network, task.classes), labels.order)
        return network

    def _refuse_labels(self, labels: Labels) -> None:
        if labels.refused:
            raise MubenchError(
                f"model {self.name}: {self.source!r} is no network trained on this task: its {labels.refused}. Correct id2label of its config.json, or name "
                "a checkpoint of the same classes."
            )

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
        said = [f"{what} {len(names)} ({first(names)})" for what, names in outside.items() if names]
        if said:
            raise MubenchError(
                f"model {self.name}: {self.source!r} does not hold the whole {self.family} network of its config: of the tensors outside the head "
                f"{'; '.join(said)}. Save the whole network again, or name another checkpoint."
            )

    def _check_finished(self, task: Served, info: dict[str, Any]) -> None:
        missing, reshaped = absent(info)
        if lacking := [*missing, *reshaped]:
            labels = (
                compare(getattr(self.declared, "id2label", None), task)
                if isinstance(task, Classification)
                else Labels()
            )
            told = f" Its {labels.refused}." if reshaped and labels.refused else ""
            raise MubenchError(
                f"model {self.name}: {self.source!r} is no network trained on {task.name}: it lacks {lacking[0]}, "
                f"or has it in another shape ({len(lacking)} such tensors).{told}"
            )

    def check_named(self, source: str | None, revision: str | None) -> None:
        """Raise MubenchError where there are no published weights, or a hub id has no revision."""
        self._resolved(source, revision)

    def _resolved(self, source: str | None, revision: str | None) -> tuple[str, str | None]:
        """Source and revision of a checkpoint, the published ones where none is named."""
        published, source = source is None, source or self.hub
        if source is None:
            raise MubenchError(f"model {self.name} has no published weights; name a folder or a hub id.")
        revision = revision or (self.revision if source == self.hub else None)
        if revision is None and not Path(source).exists():
            if published:
                raise MubenchError(
                    f"model {self.name}: pretrained: true needs a commit of {source!r}, and none is verified here. Write pretrained: {source}@COMMIT, with "
                    f"one of https://huggingface.co/{source}/commits/main, or a folder with its files."
                )
            raise MubenchError(
                f"model {self.name}: {source!r} is not here, and as a hub id needs a revision (id@commit), so that everyone loads the same weights."
            )
        return source, revision

    def pretrained(self, source: str | None = None, revision: str | None = None) -> Model[Served]:
        """This model from a folder, a GGUF file, a file of weights, a hub id at a revision, or its own published weights.

        Raises MubenchError where a hub id has no pinned revision or the checkpoint cannot be read.
        """
        source, revision = self._resolved(source, revision)
        file = state_file(source)
        if file is not None and not (file.parent / "config.json").is_file():
            return self.of_file(file)
        model = copy.copy(self)
        model.weights = file
        model.source, model.revision = (source, revision) if file is None else (str(file.parent), None)
        model._declare()
        model.adopt()
        return model

    def of_file(self, file: Path) -> TransformersModel[Served]:
        """This model, with the config that it has, with the weights of a state dict."""
        model = copy.copy(self)
        model.weights, model.form = file, False
        return model

    def reading_as(self, source: str, revision: str | None, base: Model[Served] | None = None) -> Model[Served]:
        """As of every model; the network and all that it reads are the original's. A file of weights alone has this model's form, or that of the base."""
        original = self.pretrained(source, revision)
        if not isinstance(original, TransformersModel) or original.source is None:
            model = copy.copy(base or self)
            assert isinstance(model, TransformersModel) and original.weights is not None
            model.original = model.of_file(original.weights)
            return model
        original.form, original.base = True, base
        return original

    def _declare(self) -> None:
        """Read the checkpoint's config; raises MubenchError where it is of another architecture, its weights are quantised or an adapter's, or it needs
        code of its own."""
        import transformers

        assert self.source is not None
        folder = Path(self.source)
        if folder.is_dir() and (folder / "adapter_config.json").is_file():
            raise MubenchError(f"model {self.name}: {adapter_of(folder)}")
        if folder.is_dir():
            self._refuse_code(_mapped(folder / "config.json"))
            self._refuse_code(_mapped(folder / "tokenizer_config.json"))
        self.declared = self._published(transformers.AutoConfig)
        self._refuse_code(getattr(self.declared, "auto_map", None))
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

    def _filled(self, task: Served, file: Path) -> nn.Module:
        """A state dict in this network; of one with names of an older transformers, as transformers reads it."""
        state = read_state(file)
        try:
            return fill(self.build(task), state, self._where(file))
        except MubenchError as refused:
            given = {"config": self.config(task), "state_dict": state, "dtype": torch.float32}
            with torch.random.fork_rng(devices=[]), quiet():
                network, info = self.network_class().from_pretrained(
                    None, **given, ignore_mismatched_sizes=True, output_loading_info=True
                )
            if any(absent(info)) or meant(info["unexpected_keys"]):
                raise refused
            return fill(self.build(task), network.state_dict(), self._where(file))

    def save(self, network: nn.Module, task: Served, folder: Path) -> None:
        """As transformers saves it: config, with the names of the task's classes, weights, and the processor that it came with. What a method made of
        several networks is weights alone."""
        import transformers

        if not isinstance(network, transformers.PreTrainedModel):
            super().save(network, task, folder)
            return
        with quiet():
            network.save_pretrained(folder)
        if self.source is not None and (Path(self.source) / "preprocessor_config.json").is_file():
            (folder / "preprocessor_config.json").write_bytes(
                (Path(self.source) / "preprocessor_config.json").read_bytes()
            )

    def _refuse_code(self, auto_map: Any) -> None:
        if auto_map:
            code = ", ".join(
                sorted(
                    {
                        str(name)
                        for each in auto_map.values()
                        for name in (each if isinstance(each, list) else [each])
                        if name
                    }
                )
            )
            raise MubenchError(
                f"model {self.name}: {self.source!r} brings code of its own (auto_map: {code}), which is never run here. Name a checkpoint of a network that "
                "transformers itself has, or register the network as a plugin and give its weights as a file."
            )

    def adopt(self) -> None:
        """Take over what encoding must know of the checkpoint; called once its source and ``declared`` are set."""

    def _published(self, loader: Any, **options: Any) -> Any:
        if self.source is None:
            raise MubenchError(f"model {self.name} has no checkpoint: take its ``pretrained()``.")
        place = located(self.source, self.revision)
        if "gguf_file" in place:
            options.pop("use_safetensors", None)
        if self.weights is not None and hasattr(loader, "_from_config"):
            # The tensors of a file that is named, put into the network as transformers does it (older names, a base model's, ...).
            options.pop("use_safetensors", None)
            options.pop("device_map", None)
            place = {"pretrained_model_name_or_path": None, "state_dict": read_state(self.weights)}
        elif hasattr(loader, "_from_config"):
            self._refuse_pickles()
        try:
            return loader.from_pretrained(**place, trust_remote_code=False, **options)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what damaged files raise is any of many, struct.error and KeyError among them
            at = f" at {self.revision}" if self.revision else ""
            raise MubenchError(
                f"model {self.name}: {self.source!r}{at} cannot be loaded from safetensors or GGUF: {reason_of(error)}"
            ) from error

    def _refuse_pickles(self) -> None:
        """Raise MubenchError for a folder whose weights are a pickle alone."""
        folder = Path(self.source or "")
        if not folder.is_dir() or any(folder.glob("*.safetensors*")):
            return
        pickles = sorted(path.name for path in folder.glob("*.bin") if path.name.startswith("pytorch_model"))
        if pickles:
            mend = (
                f"Name that file ({folder / pickles[0]}): it is read with weights_only, and nothing in it is run."
                if len(pickles) == 1
                else "Save it with transformers (save_pretrained), which writes safetensors."
            )
            raise MubenchError(
                f"model {self.name}: {self.source!r} cannot be loaded from safetensors or GGUF: its weights are pickles ({first(pickles)}). {mend}"
            )


def _mapped(path: Path) -> Any:
    """``auto_map`` of a JSON file; None where it has none or cannot be read, which its own reader says."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content.get("auto_map") if isinstance(content, dict) else None


def meant(names: Iterable[str]) -> list[str]:
    """Names of tensors, sorted, without the spare ones."""
    return sorted(name for name in names if not name.endswith(SPARE))


def absent(info: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the tensors that a checkpoint lacks, and of those that it has in another shape; ``info`` is what transformers said in loading it."""
    return meant(info["missing_keys"]), meant(name for name, *_ in info["mismatched_keys"])


class TransformersImageModel(TransformersModel[ImageClassification], ImageModel):
    """An image network of transformers; checkpoints say their own image size and processor, and read three channels."""

    #: Whether it takes pictures of its config's size alone.
    one_size: ClassVar[bool] = False

    def input_channels(self, task: ImageClassification) -> int:
        """Channels that the network reads."""
        return self.channels or task.channels

    def adopt(self) -> None:
        """Take the checkpoint's processor, its image size and channels; grey pictures are repeated."""
        self.channels = getattr(self.declared, "num_channels", 3)
        size = getattr(self.declared, "image_size", None)
        self.image_size = size if isinstance(size, int) else self.image_size
        assert self.source is not None
        self.processor = picture_processor(self.source, self.revision)

    def check(self, task: ImageClassification, finished: bool = False) -> None:
        """Raise MubenchError also where the processor does not give what the network reads."""
        super().check(task, finished)
        if self.source is not None:
            refuse_pictures(self, self.processor, task.channels, task.size, self.image_size if self.one_size else None)

    def remarks(self, task: ImageClassification, finished: bool = False) -> list[str]:
        """Also what is done to the task's pictures."""
        said = super().remarks(task, finished)
        if self.source is None or not Path(self.source).is_dir():
            return said
        return [*said, *unlike_pictures(self, self.processor, task.name, task.size)]
