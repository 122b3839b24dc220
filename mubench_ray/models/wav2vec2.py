"""Wav2Vec2 (Baevski et al. 2020) and HuBERT (Hsu et al. 2021) through transformers: the same network, pretrained differently."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.speech import WaveformModel
from mubench_ray.tasks.speech import SpeechClassification


class Wav2Vec2(WaveformModel):
    """A Wav2Vec2 encoder with a classification head on its mean.

    ``layer_norm`` is the form of the larger models: LayerNorm in every convolution and before, not after, each block.
    """

    family = "wav2vec2"
    citation = "Baevski et al. 2020, arXiv 2006.11477"
    architecture = "Wav2Vec2ForSequenceClassification"
    config_class = "Wav2Vec2Config"

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        layer_norm: bool = False,
        tiny: bool = False,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.hidden, self.layers, self.heads, self.layer_norm, self.tiny = hidden, layers, heads, layer_norm, tiny
        self.hub, self.revision = hub, revision

    def settings(self, task: SpeechClassification) -> dict[str, Any]:
        """Width, layers, heads and the form of the convolutions."""
        settings = {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
            "feat_extract_norm": "layer" if self.layer_norm else "group",
            "conv_bias": self.layer_norm,
            "do_stable_layer_norm": self.layer_norm,
        }
        if self.tiny:
            settings |= {
                "conv_dim": (16, 16, 32),
                "conv_kernel": (20, 8, 4),
                "conv_stride": (20, 8, 4),
                "num_conv_pos_embeddings": 8,
            }
            settings |= {"num_conv_pos_embedding_groups": 4, "classifier_proj_size": 32}
        return settings


class Hubert(Wav2Vec2):
    """A HuBERT encoder with a classification head on its mean."""

    family = "hubert"
    citation = "Hsu et al. 2021, arXiv 2106.07447"
    architecture = "HubertForSequenceClassification"
    config_class = "HubertConfig"


register("wav2vec2-tiny", Wav2Vec2(32, 2, 2, tiny=True))
register(
    "wav2vec2-base",
    Wav2Vec2(768, 12, 12, hub="facebook/wav2vec2-base", revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"),
    "wav2vec2",
)
register("wav2vec2-large", Wav2Vec2(1024, 24, 16, hub="facebook/wav2vec2-large"))
register("hubert-tiny", Hubert(32, 2, 2, layer_norm=True, tiny=True))
register(
    "hubert-base",
    Hubert(768, 12, 12, hub="facebook/hubert-base-ls960", revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a"),
    "hubert",
)
register(
    "hubert-large",
    Hubert(
        1024,
        24,
        16,
        layer_norm=True,
        hub="facebook/hubert-large-ll60k",
        revision="ff022d095678a2995f3c49bab18a96a9e553f782",
    ),
)
register("hubert-xlarge", Hubert(1280, 48, 16, layer_norm=True, hub="facebook/hubert-xlarge-ll60k"), "hubert-xl")
