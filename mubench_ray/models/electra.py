"""ELECTRA (Clark et al. 2020) through transformers."""

from __future__ import annotations

from typing import Any

from mubench_ray.models.base import register
from mubench_ray.models.text import SizedTextModel
from mubench_ray.tasks.text import TextClassification


class Electra(SizedTextModel):
    """An ELECTRA discriminator with a classification head."""

    family = "electra"
    citation = "Clark et al. 2020, arXiv 2003.10555"
    architecture = "ElectraForSequenceClassification"
    config_class = "ElectraConfig"

    def settings(self, task: TextClassification) -> dict[str, Any]:
        """As every encoder, with embeddings of the full width."""
        return {**super().settings(task), "embedding_size": self.hidden}


register("electra-tiny", Electra(32, 2, 2, 4000))
register("electra-base", Electra(768, 12, 12, hub="google/electra-base-discriminator"), "electra")
