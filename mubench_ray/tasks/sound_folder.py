"""Recordings of one's own: a folder a class, or an index."""

from __future__ import annotations

import io
import wave
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mubench_ray.errors import DataError, MubenchError
from mubench_ray.tasks.files import read_bytes
from mubench_ray.tasks.own import OwnOptions, own
from mubench_ray.tasks.own_files import OwnFiles
from mubench_ray.tasks.speech import SpeechClassification, fitted, read_wav

#: Recordings whose length is looked at, the share of them that is heard whole, and the most seconds that are taken unasked.
TIMED, HEARD, LONGEST = 100, 0.9, 10.0


class SoundOptions(OwnOptions):
    """How much of a recording is heard."""

    #: Seconds that every recording is padded with silence or cut to; None: what nine in ten have, at most 10.
    seconds: float | None = Field(default=None, gt=0, le=60)


@own("sound_folder", title="Recordings in a folder")
class SoundFolder(OwnFiles, SpeechClassification):
    """``train/CLASS/*``, perhaps ``val/`` and ``test/`` beside it, or ``CLASS/*`` alone; or an index, a CSV with the columns path, label and perhaps split.
    Heard at 16 kHz, channels averaged. WAV of 16 bits is read here, all else by soundfile."""

    Options = SoundOptions
    options: ClassVar[SoundOptions]
    suffixes = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au")
    column = "waveform"

    @classmethod
    def settled(cls, options: SoundOptions) -> dict[str, Any]:
        """``seconds``."""
        return {"seconds": options.seconds or typical_seconds(cls.there(options).files)}

    def decoded(self, path: Path) -> np.ndarray:
        """int16 (samples,)."""
        return recording(path, read_bytes(path), self.rate, self.samples)

    def empty(self) -> np.ndarray:
        """Silence."""
        return np.zeros(self.samples, np.int16)

    def decoding(self) -> dict[str, Any]:
        """Rate and length."""
        return {"rate": self.rate, "samples": self.samples}


def recording(path: Path, content: bytes, rate: int, samples: int) -> np.ndarray:
    """A recording of any kind that soundfile reads as int16 (samples,) at ``rate``; raises DataError naming one that is damaged."""
    if _plain(content):
        return read_wav(path, content, rate, samples)
    soundfile = _soundfile(path)
    try:
        sound, own_rate = soundfile.read(io.BytesIO(content), always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: not a readable recording ({error}).") from error
    if not len(sound):
        raise DataError(f"{path}: has no samples.")
    return fitted(sound * 32768, own_rate, rate, samples)


def _plain(content: bytes) -> bool:
    """Whether it is a WAV file of 16-bit samples."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            return file.getsampwidth() == 2
    except (wave.Error, EOFError):
        return False


def _soundfile(path: Path) -> Any:
    try:
        return import_module("soundfile")
    except ImportError as error:
        raise MubenchError(
            f"{path}: reading recordings other than WAV of 16 bits needs soundfile: pip install mubench_ray[data]."
        ) from error


def typical_seconds(files: list[Path]) -> float:
    """What HEARD of up to TIMED recordings, evenly spaced, last at most, in tenths of a second, at most LONGEST."""
    lengths = [length for path in files[:: max(1, len(files) // TIMED)] if (length := _seconds(path))]
    if not lengths:
        return 1.0
    return float(min(LONGEST, max(0.1, np.ceil(np.quantile(lengths, HEARD) * 10 - 1e-9) / 10)))


def _seconds(path: Path) -> float | None:
    """How long a recording lasts; None where that cannot be told, as is said where it is decoded."""
    content = read_bytes(path)
    if _plain(content):
        with wave.open(io.BytesIO(content)) as file:
            return file.getnframes() / file.getframerate()
    soundfile = _soundfile(path)
    try:
        return float(soundfile.info(io.BytesIO(content)).duration)
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        return None
