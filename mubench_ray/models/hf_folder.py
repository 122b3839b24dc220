"""A classifier of transformers from a folder of one's own or a hub id, ``hf:FOLDER`` or ``hf:id@commit``, by the task's modality."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mubench_ray.errors import MubenchError
from mubench_ray.files import sha256
from mubench_ray.models.base import MODELS, Model
from mubench_ray.models.checkpoint import TransformersImageModel, TransformersModel, reason_of
from mubench_ray.models.speech import SpectrogramModel, WaveformModel
from mubench_ray.models.text import TextModel, TokenReader
from mubench_ray.models.tokenizer import load_tokenizer
from mubench_ray.models.videomae import VideoMAE
from mubench_ray.registry import Family
from mubench_ray.tasks.base import Columns, Task
from mubench_ray.trial import canonical, own_name

#: Files of weights, which say nothing of how a network is built or reads.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt")


class _Configured(TransformersModel[Any]):
    """What a folder's config adds to the model of a modality: its class and its head."""

    def settings(self, task: Any) -> dict[str, Any]:
        """None: the config is the folder's."""
        raise MubenchError(f"model {self.name} is built from its folder's config")

    def config(self, task: Any) -> Any:
        """The folder's; where it names no token of padding, the one that its tokenizer pads with: networks that classify by the last token look for it."""
        config = super().config(task)
        if getattr(config, "pad_token_id", 0) is None and isinstance(self, TokenReader):
            reader = self.reader(task)
            tokenizer = load_tokenizer(str(reader.source), reader.revision, self.vocabulary)
            known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
            config.pad_token_id = next((token for token in known if token is not None), 0)
        return config


class _Text(_Configured, TextModel):
    """Texts."""


class _Image(_Configured, TransformersImageModel):
    """Pictures."""


class _Waveform(_Configured, WaveformModel):
    """Recordings, read as samples."""


class _Spectrogram(_Configured, SpectrogramModel):
    """Recordings, read as Whisper's spectrogram."""

    def frames(self, task: Any) -> int:
        """As many as the config has positions for, two each."""
        return 2 * self.declared.max_source_positions

    def adopt(self) -> None:
        """The config's bands."""
        self.bands = self.declared.num_mel_bins


class _Video(_Configured, VideoMAE):
    """Clips."""

    def __init__(self) -> None:
        super().__init__(0, 0, 0)


class Modality(NamedTuple):
    """The class of transformers that finds the network of a config, and the model that encodes for it."""

    auto: str
    model: type[_Configured]


MODALITIES = {
    "text": Modality("AutoModelForSequenceClassification", _Text),
    "image": Modality("AutoModelForImageClassification", _Image),
    "speech": Modality("AutoModelForAudioClassification", _Waveform),
    "video": Modality("AutoModelForVideoClassification", _Video),
}


class FolderModel(Model[Task]):
    """The network that a folder's config.json describes, with a head for the task's classes and the folder's tokenizer: from random weights, or with
    ``pretrained: true`` from the folder's own. ``original`` is a folder with a network that was trained on the task."""

    family = "hf"
    citation = "Wolf et al. 2020, doi:10.18653/v1/2020.emnlp-demos.6"
    modality = "text, image, speech or video"
    #: Whether training starts from the folder's weights.
    started = False

    def __init__(self, name: str, folder: str, revision: str | None, config: Any) -> None:
        self.name, self.folder, self.folder_revision, self.declared = name, folder, revision, config
        self.published_at = folder if Path(folder).is_dir() else None
        self.inner = {modality: made for modality in MODALITIES if (made := self._made(modality)) is not None}

    @property
    def label(self) -> str:
        """What it is called in an error."""
        return own_name(self.name)

    def _made(self, modality: str) -> TransformersModel[Any] | None:
        import transformers

        auto, kind = MODALITIES[modality]
        mapping = getattr(transformers, auto)._model_mapping
        if type(self.declared) not in mapping:
            return None
        network = mapping[type(self.declared)]
        network = network[0] if isinstance(network, list | tuple) else network
        if modality == "speech" and network.main_input_name != "input_values":
            kind = _Spectrogram
        if modality == "speech" and self.declared.model_type == "audio-spectrogram-transformer":
            return None  # reads features that nothing here computes
        prefix = network.base_model_prefix
        with torch.device("meta"):
            parts = [part for part, _ in network(copy.deepcopy(self.declared)).named_children() if part != prefix]
        said = {
            "__module__": __name__,
            "architecture": network.__name__,
            "config_class": type(self.declared).__name__,
            "family": self.family,
            "citation": self.citation,
            # A base model is saved without what classifies, and often without the pooler.
            "head": (*(f"{part}." for part in parts), f"{prefix}.pooler."),
            "always": {key: value for key, value in kind.always.items() if hasattr(self.declared, key)},
        }
        bare = type(kind.__name__, (kind,), said)()
        bare.name = self.name
        made = bare.pretrained(self.folder, self.folder_revision)
        assert isinstance(made, TransformersModel)
        return made

    def of(self, task: Task | type[Task]) -> TransformersModel[Any]:
        """The model of the task's modality."""
        return self.inner[task.modality]

    def refusal(self, task: type[Task]) -> str | None:
        """Why it cannot serve a task, or None."""
        if task.kind not in self.kinds:
            return f"model {self.label} does classification, task {task.name} is {task.kind}"
        if task.modality not in self.inner:
            reads = " and ".join(self.inner) or "nothing that is classified here"
            return f"model {self.label} ({self.declared.model_type}) reads {reads}, task {task.name} is {task.modality}"
        return None

    def build(self, task: Task) -> nn.Module:
        """The folder's network with random weights."""
        return self.of(task).build(task)

    def initial(self, task: Task) -> nn.Module:
        """The folder's weights where they are asked for, or random ones."""
        return self.of(task).initial(task) if self.started else self.build(task)

    def finished(self, task: Task) -> nn.Module:
        """The folder of ``pretrained()`` as it is."""
        if self.original is not None:
            return self.original.finished(task)
        return self.of(task).finished(task)

    def check(self, task: Task, finished: bool = False) -> None:
        """Raise MubenchError where a folder does not hold what it is taken for."""
        if finished and self.original is not None:
            return self.original.check(task, finished)
        return self.of(task).check(task, finished) if self.started else None

    def pretrained(self, source: str | None = None, revision: str | None = None) -> FolderModel:
        """This model from its own folder's weights, or from another folder with a network of this kind."""
        model = copy.copy(self)
        model.started = True
        if source is not None:
            made = {modality: inner.pretrained(source, revision) for modality, inner in self.inner.items()}
            model.inner = {modality: inner for modality, inner in made.items() if isinstance(inner, TransformersModel)}
        return model

    def version_for(self, task: type[Task], from_checkpoint: bool) -> int:
        """That of networks from a checkpoint: its config and its tokenizer are read in any case."""
        return self.of(task).version_for(task, True) if self.refusal(task) is None else self.version

    def encode(self, task: Task, columns: Columns) -> Columns:
        """As the folder's network reads."""
        return self.of(task).encode(task, columns)


def _open(told: str) -> tuple[str, Model]:
    options = json.loads(told) if told.startswith("{") else {"path": told}
    source, _, revision = str(options["path"]).partition("@")
    folder = Path(source)
    if not folder.is_dir() and not revision:
        raise MubenchError(
            f"model hf:{source}: there is no such folder, and as a hub id it needs a commit: hf:{source}@COMMIT."
        )
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, revision=revision or None, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # what damaged files raise is any of many
        raise MubenchError(f"model hf:{source}: its config.json cannot be read: {reason_of(error)}") from error
    content = {"path": options["path"]}
    if folder.is_dir():
        content["sha256"] = folder_hash(folder)
        if options.get("sha256") not in (None, content["sha256"]):
            raise MubenchError(f"{source}: its config or tokenizer are others than when it was planned.")
    told = canonical(content)
    return told, FolderModel(f"hf:{told}", source, revision or None, config)


def folder_hash(folder: Path) -> str:
    """Of all files of a folder but its weights, shortened."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in WEIGHTS)
    return hashlib.sha256("\n".join(f"{path.name} {sha256(path)}" for path in files).encode()).hexdigest()[:16]


MODELS.add_family(Family("hf", "FOLDER|ID@COMMIT", "A classifier of transformers", FolderModel.__doc__ or "", _open))
