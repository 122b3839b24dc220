"""Tasks that hear one second of speech, and how a WAV file is read."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Classification, Columns


class SpeechClassification(Classification):
    """Recordings in column ``waveform`` (int16, N x samples, 16 kHz, silence added or the end cut off) with ``labels``."""

    modality = "speech"
    rate: ClassVar[int] = 16000
    seconds: ClassVar[float] = 1.0

    @property
    def samples(self) -> int:
        """Length of a waveform."""
        return round(self.rate * self.seconds)

    def blank(self, rows: int) -> Columns:
        """Silence of class 0."""
        waveform = torch.zeros(rows, self.samples, dtype=torch.int16)
        return {"waveform": waveform, "labels": torch.zeros(rows, dtype=torch.int64), "index": torch.arange(rows)}


def read_wav(where: Path, content: bytes, rate: int, samples: int) -> np.ndarray:
    """A 16-bit PCM recording as int16 (samples,) at ``rate``: channels averaged, resampled, padded with silence or cut.

    Raises DataError naming a file that is damaged, truncated or of another encoding.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            frames, channels, width, own_rate = (
                file.getnframes(),
                file.getnchannels(),
                file.getsampwidth(),
                file.getframerate(),
            )
            data = file.readframes(frames)
    except (wave.Error, EOFError) as error:
        raise DataError(f"{where}: not a readable WAV file ({error}); fetch it again.") from error
    if width != 2:
        raise DataError(f"{where}: has {8 * width}-bit samples; only 16-bit PCM is read.")
    if not frames or len(data) != frames * channels * 2:
        raise DataError(
            f"{where}: header says {frames:,} frames, the file holds {len(data) // (2 * channels):,}; it is truncated or empty."
        )
    return fitted(np.frombuffer(data, "<i2").reshape(-1, channels), own_rate, rate, samples)


def fitted(sound: np.ndarray, own_rate: int, rate: int, samples: int) -> np.ndarray:
    """A recording (frames, channels) on the scale of int16 as int16 (samples,) at ``rate``: channels averaged, resampled, padded with silence or cut."""
    sound = sound[:, 0] if sound.shape[1] == 1 else sound.mean(1)
    if own_rate != rate:
        from scipy.signal import resample_poly

        common = np.gcd(own_rate, rate)
        sound = resample_poly(sound.astype(np.float64), rate // common, own_rate // common)
    whole = np.zeros(samples, np.int16)
    sound = sound[:samples]
    whole[: len(sound)] = np.clip(np.round(sound), -32768, 32767)
    return whole
