"""The encoder of Whisper (Radford et al. 2023) through transformers, with a classification head."""

from __future__ import annotations

from typing import Any

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import register
from mubench_ray.models.speech import SpectrogramModel
from mubench_ray.tasks.speech import SpeechClassification


class Whisper(SpectrogramModel):
    """A Whisper encoder; it reads 30 seconds whatever the task's length, unless ``seconds`` is None: then as much as the task has."""

    family = "whisper"
    citation = "Radford et al. 2023, arXiv 2212.04356"
    architecture = "WhisperForAudioClassification"
    config_class = "WhisperConfig"

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        seconds: int | None = 30,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.hidden, self.layers, self.heads, self.seconds = hidden, layers, heads, seconds
        self.hub, self.revision = hub, revision

    def frames(self, task: SpeechClassification) -> int:
        """A hundred a second, two to a position of the encoder."""
        return 2 * round(50 * (self.seconds or task.seconds))

    def adopt(self) -> None:
        """Take the checkpoint's length and bands."""
        super().adopt()
        self.seconds, self.bands = self.declared.max_source_positions / 50, self.declared.num_mel_bins
        if self.processor is not None and (self.processor.bands, self.processor.seconds) != (self.bands, self.seconds):
            raise MubenchError(
                f"model {self.name}: {self.source!r}: its preprocessor_config.json gives {self.processor.bands} mel bands of {self.processor.seconds:g} s, its "
                f"network (config.json) reads {self.bands} of {self.seconds:g} s."
            )

    def settings(self, task: SpeechClassification) -> dict[str, Any]:
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
register(
    "whisper-tiny", Whisper(384, 4, 6, hub="openai/whisper-tiny", revision="169d4a4341b33bc18d8881c4b69c2e104e1cc0af")
)
register(
    "whisper-base", Whisper(512, 6, 8, hub="openai/whisper-base", revision="e37978b90ca9030d5170a5c07aadb050351a65bb")
)
register(
    "whisper-small",
    Whisper(768, 12, 12, hub="openai/whisper-small", revision="973afd24965f72e36ca33b3055d56a652f456b4d"),
)
