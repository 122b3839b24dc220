"""BERT (Devlin et al. 2019) and its biomedical descendants through transformers."""

from __future__ import annotations

from mubench_ray.models.base import register
from mubench_ray.models.text import SizedTextModel

PUBMED = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"


class Bert(SizedTextModel):
    """A BERT encoder with a classification head; the descendants differ in their published weights and vocabulary."""

    family = "bert"
    architecture = "BertForSequenceClassification"
    config_class = "BertConfig"
    #: A masked language model is saved without the pooler.
    head = ("classifier.", "bert.pooler.")

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        vocabulary: int = 30522,
        hub: str | None = None,
        revision: str | None = None,
        citation: str = "Devlin et al. 2019, arXiv 1810.04805",
    ) -> None:
        super().__init__(hidden, layers, heads, vocabulary, hub, revision)
        self.citation = citation


register("bert-tiny", Bert(32, 2, 2, 4000))
register(
    "bert-base",
    Bert(768, 12, 12, hub="google-bert/bert-base-uncased", revision="86b5e0934494bd15c9632b12f734a8a67f723594"),
    "bert",
)
register(
    "bert-large",
    Bert(1024, 24, 16, hub="google-bert/bert-large-uncased", revision="6da4b6a26a1877e173fca3225479512db81a5e5b"),
)
register(
    "biobert",
    Bert(
        768,
        12,
        12,
        28996,
        hub="dmis-lab/biobert-v1.1",
        revision="551ca18efd7f052c8dfa0b01c94c2a8e68bc5488",
        citation="Lee et al. 2020, doi:10.1093/bioinformatics/btz682",
    ),
)
PUBMEDBERT = "Gu et al. 2021, arXiv 2007.15779"
register(
    "pubmedbert-abstract",
    Bert(768, 12, 12, hub=PUBMED, revision="d673b8835373c6fa116d6d8006b33d48734e305d", citation=PUBMEDBERT),
)
register(
    "pubmedbert-fulltext",
    Bert(
        768, 12, 12, hub=f"{PUBMED}-fulltext", revision="e1354b7a3a09615f6aba48dfad4b7a613eef7062", citation=PUBMEDBERT
    ),
)
