"""DistilBERT (Sanh et al. 2019) through transformers."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.text import SizedTextModel
from mubench_ray.tasks.base import Task


class DistilBert(SizedTextModel):
    """A DistilBERT encoder with a classification head."""

    family = "distilbert"
    citation = "Sanh et al. 2019, arXiv 1910.01108"
    architecture = "DistilBertForSequenceClassification"
    config_class = "DistilBertConfig"
    head = ("classifier.", "pre_classifier.")

    def settings(self, task: Task) -> dict[str, Any]:
        """Width, layers, heads, vocabulary under this config's names."""
        return {
            "vocab_size": self.vocabulary,
            "dim": self.hidden,
            "hidden_dim": 4 * self.hidden,
            "n_layers": self.layers,
            "n_heads": self.heads,
            "max_position_embeddings": self.positions,
            "pad_token_id": self.padding,
        }


register("distilbert-tiny", DistilBert(32, 2, 2, 4000))
register(
    "distilbert",
    DistilBert(
        768, 6, 12, hub="distilbert/distilbert-base-uncased", revision="12040accade4e8a0f71eabdb258fecc2e7e948be"
    ),
    "distilbert-base",
)
