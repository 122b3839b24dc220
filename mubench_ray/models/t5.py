"""T5 version 1.1 (Raffel et al. 2020; Shazeer 2020) through transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mubench_ray.models.base import register
from mubench_ray.models.text import TokenReader, masked
from mubench_ray.tasks.base import Columns
from mubench_ray.tasks.sequence import IGNORED, SequenceTask


class T5(TokenReader[SequenceTask]):
    """A T5 v1.1: gated GELU, input and output embeddings apart. Padding is token 0, which also opens the decoder's input."""

    family = "t5"
    modality = "text"
    kinds = ("sequence to sequence",)
    citation = "Raffel et al. 2020, arXiv 1910.10683; Shazeer 2020, arXiv 2002.05202"
    architecture = "T5ForConditionalGeneration"
    config_class = "T5Config"
    head = ()
    positions = 100_000
    #: Token that ends a text: [SEP] of a tokenizer trained here, </s> of a checkpoint.
    end = 3

    def __init__(
        self,
        width: int,
        inner: int,
        layers: int,
        heads: int,
        vocabulary: int = 32128,
        size: int = 64,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.revision = revision
        self.width, self.inner, self.layers, self.heads, self.vocabulary, self.size, self.hub = (
            width,
            inner,
            layers,
            heads,
            vocabulary,
            size,
            hub,
        )

    def settings(self, task: SequenceTask) -> dict[str, Any]:
        """Widths, layers, heads, vocabulary."""
        return {
            "vocab_size": self.vocabulary,
            "d_model": self.width,
            "d_ff": self.inner,
            "d_kv": self.size,
            "num_layers": self.layers,
            "num_heads": self.heads,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "eos_token_id": self.end,
            "decoder_start_token_id": 0,
        }

    def build(self, task: SequenceTask) -> nn.Module:
        """A network with random weights and an output projection of its own, as version 1.1 has; transformers would share the embedding's."""
        network = super().build(task)
        if self.source is None:
            head, shared = network.get_submodule("lm_head"), network.get_parameter("lm_head.weight")
            head.register_parameter("weight", nn.Parameter(torch.randn_like(shared) / self.width**0.5))
        return network

    def adopt(self) -> None:
        """Take the checkpoint's end token too."""
        super().adopt()
        self.end = self.declared.eos_token_id

    def prompt(self, task: SequenceTask, columns: Columns) -> Columns:
        """The source and the end token: what generation starts from."""
        return masked(*closed(*self.tokens(task, columns["text"], task.max_length - 1, special=False), self.end))

    def encode(self, task: SequenceTask, columns: Columns) -> Columns:
        """Source and target, each followed by the end token; ``targets`` (B, T) and the same one token later as the decoder's input."""
        ids, mask = closed(*self.tokens(task, columns["target"], task.max_target - 1, special=False), self.end)
        return {
            **self.prompt(task, columns),
            "decoder_input_ids": torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], 1),
            "targets": ids.masked_fill(mask == 0, IGNORED),
        }


def closed(ids: Tensor, mask: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """(ids, mask) one token longer, with ``end`` behind the last token of every row."""
    ids = torch.cat([ids, torch.zeros_like(ids[:, :1])], 1)
    if ids.is_meta:
        return ids, torch.ones_like(ids)
    length = mask.sum(1, keepdim=True)
    ids = ids.scatter(1, length, end)
    return ids, (torch.arange(ids.shape[1], device=ids.device) <= length).long()


register("t5-tiny", T5(32, 64, 2, 2, vocabulary=4000, size=16))
register("t5-small", T5(512, 1024, 8, 6, hub="google/t5-v1_1-small"), "t5-v1.1-small")
register(
    "t5-base",
    T5(768, 2048, 12, 12, hub="google/t5-v1_1-base", revision="b5fc947a416ea3cb079532cb3c2bbadeb7f800fc"),
    "t5-v1.1-base",
)
register(
    "t5-large",
    T5(1024, 2816, 24, 16, hub="google/t5-v1_1-large", revision="a98b0fcd0b8137ded40cdf0c0cf0ee884e7c9726"),
    "t5-v1.1-large",
)
register("t5-xl", T5(2048, 5120, 24, 32, hub="google/t5-v1_1-xl"), "t5-v1.1-xl")
