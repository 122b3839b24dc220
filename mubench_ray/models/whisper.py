"""The encoder of Whisper (Radford et al. 2023) through transformers, with a classification head."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.speech import SpectrogramModel
from mubench_ray.tasks.base import Task


class Whisper(SpectrogramModel):
    """A Whisper encoder; it reads 30 seconds whatever the task's length, unless ``seconds`` is None: then as much as the task has."""

    family = "whisper"
    citation = "Radford et al. 2023, arXiv 2212.04356"
    architecture = "WhisperForAudioClassification"
    config_class = "WhisperConfig"

    def __init__(self, hidden: int, layers: int, heads: int, seconds: int | None = 30, hub: str | None = None) -> None:
        self.hidden, self.layers, self.heads, self.seconds, self.hub = hidden, layers, heads, seconds, hub

    def frames(self, task: Task) -> int:
        """A hundred a second, two to a position of the encoder."""
        return 2 * round(50 * (self.seconds or task.seconds))

    def adopt(self) -> None:
        """Take the checkpoint's length and bands."""
        import transformers

        config = self._published(transformers.AutoConfig)
        self.seconds, self.bands = config.max_source_positions / 50, config.num_mel_bins

    def settings(self, task: Task) -> dict[str, Any]:
        """Width, layers and heads of the encoder; there is no decoder."""
        return {
            "d_model": self.hidden,
            "encoder_layers": self.layers,
            "encoder_attention_heads": self.heads,
            "encoder_ffn_dim": 4 * self.hidden,
            "num_mel_bins": self.bands,
            "max_source_positions": self.frames(task) // 2,
            "classifier_proj_size": min(256, self.hidden),
            "vocab_size": 64,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 1,
            "decoder_start_token_id": 1,
        }


register("whisper-mini-tiny", Whisper(32, 2, 2, seconds=None))
register("whisper-tiny", Whisper(384, 4, 6, hub="openai/whisper-tiny"))
register("whisper-base", Whisper(512, 6, 8, hub="openai/whisper-base"))
register("whisper-small", Whisper(768, 12, 12, hub="openai/whisper-small"))
