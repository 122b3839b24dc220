"""Models that hear: from the samples themselves, or from a log-mel spectrogram."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.models.checkpoint import TransformersModel
from mubench_ray.models.processor import SoundProcessor, sound_processor
from mubench_ray.tasks.base import Columns
from mubench_ray.tasks.speech import SpeechClassification

#: What transformers puts on an encoder of sounds to classify them.
HEAD = ("classifier.", "projector.", "layer_weights")


class SpeechModel(TransformersModel[SpeechClassification]):
    """Hears as a checkpoint's feature extractor says, where it has one."""

    modality = "speech"
    processor: SoundProcessor | None = None

    def adopt(self) -> None:
        """Take the checkpoint's feature extractor."""
        assert self.source is not None
        self.processor = sound_processor(self.source, self.revision)

    def check(self, task: SpeechClassification, finished: bool = False) -> None:
        """Raise MubenchError also where the feature extractor hears at another rate than the task is recorded at."""
        super().check(task, finished)
        if self.processor is not None and self.processor.rate != task.rate:
            raise MubenchError(
                f"model {self.name}: {self.source!r}: its preprocessor_config.json reads {self.processor.rate} samples a second, {task.name} gives {task.rate}."
            )

    def remarks(self, task: SpeechClassification, finished: bool = False) -> list[str]:
        """Also what is done to the task's recordings."""
        said = super().remarks(task, finished)
        if self.source is not None and self.processor is None:
            said.append(f"{self.source}: no preprocessor_config.json: recordings are read as {self.name} reads them")
        elif self.processor is not None and self.processor.normalise:
            said.append(
                f"{task.name}: recordings are {task.seconds:g} s, with silence where they are shorter; the checkpoint's scaling counts it in"
            )
        return said


class WaveformModel(SpeechModel):
    """Reads ``input_values``: samples scaled to mean 0 and variance 1 a recording (unless a checkpoint's feature extractor leaves them), float32
    (B, samples)."""

    #: No masking of spans and no dropped layers: the one draws outside torch's seeds, the other makes the cost of a step a draw.
    always = {"apply_spec_augment": False, "layerdrop": 0.0}
    head = HEAD

    def encode(self, task: SpeechClassification, columns: Columns) -> Columns:
        """``input_values``, float32 (B, samples)."""
        sound = columns["waveform"].float() / 32768
        if self.processor is not None and not self.processor.normalise:
            return {"input_values": sound}
        mean, variance = sound.mean(-1, keepdim=True), sound.var(-1, keepdim=True, unbiased=False)
        return {"input_values": (sound - mean) / (variance + 1e-7).sqrt()}


class SpectrogramModel(SpeechModel):
    """Reads ``input_features``: Whisper's log-mel spectrogram of the recording followed by silence, float32 (B, bands, frames)."""

    head = HEAD
    bands: int = 80

    @abstractmethod
    def frames(self, task: SpeechClassification) -> int:
        """Frames of 10 ms that the network reads."""

    def encode(self, task: SpeechClassification, columns: Columns) -> Columns:
        """``input_features``, float32 (B, bands, frames)."""
        return {"input_features": log_mel(columns["waveform"], self.frames(task), self.bands)}


def log_mel(waveform: Tensor, frames: int, bands: int) -> Tensor:
    """Whisper's features (Radford et al. 2023) of int16 samples at 16 kHz: windows of 25 ms every 10 ms, Slaney's mel bands, log10, the
    range of 8 below the maximum mapped to about -1..1; float32 (B, bands, frames)."""
    if waveform.is_meta:
        return torch.zeros(len(waveform), bands, frames, device="meta")
    sound = waveform.float() / 32768
    sound = torch.nn.functional.pad(sound[:, : frames * 160], (0, max(0, frames * 160 - sound.shape[1])))
    window = torch.hann_window(400, device=sound.device)
    power = torch.stft(sound, 400, 160, window=window, return_complex=True)[..., :-1].abs() ** 2
    mel = _filters(bands).to(sound.device).T @ power
    log = mel.clamp(min=1e-10).log10()
    log = torch.maximum(log, log.amax((-2, -1), keepdim=True) - 8)
    return (log + 4) / 4


@lru_cache(maxsize=4)
def _filters(bands: int) -> Tensor:
    """Mel filters, float32 (201, bands)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(201, bands, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters).float()
