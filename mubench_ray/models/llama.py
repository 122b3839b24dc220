"""LLaMA (Touvron et al. 2023) and models tuned from it, through transformers."""

from __future__ import annotations

from typing import Any

import torch

from mubench_ray.models.base import register
from mubench_ray.models.t5 import closed
from mubench_ray.models.text import TokenReader, masked
from mubench_ray.tasks.base import Columns
from mubench_ray.tasks.sequence import IGNORED, SequenceTask


class Llama(TokenReader[SequenceTask]):
    """A decoder-only language model. Without a checkpoint texts open with [CLS] and end with [SEP] of a tokenizer trained on D."""

    family = "llama"
    modality = "text"
    kinds = ("causal language model",)
    architecture = "LlamaForCausalLM"
    config_class = "LlamaConfig"
    head = ()
    positions = 2048
    begin: int | None = 2
    end = 3

    def __init__(
        self,
        hidden: int,
        inner: int,
        layers: int,
        heads: int,
        vocabulary: int = 32000,
        key_heads: int | None = None,
        tied: bool = False,
        hub: str | None = None,
        revision: str | None = None,
        citation: str = "Touvron et al. 2023, arXiv 2302.13971",
    ) -> None:
        self.hidden, self.inner, self.layers, self.heads, self.vocabulary = hidden, inner, layers, heads, vocabulary
        self.key_heads, self.tied, self.citation = key_heads or heads, tied, citation
        self.hub, self.revision = hub, revision

    def settings(self, task: SequenceTask) -> dict[str, Any]:
        """Widths, layers, heads, vocabulary."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "max_position_embeddings": self.positions,
            "tie_word_embeddings": self.tied,
            "pad_token_id": self.padding,
            "bos_token_id": self.begin,
            "eos_token_id": self.end,
        }

    def adopt(self) -> None:
        """Take the checkpoint's first and last token too."""
        super().adopt()
        self.begin, self.end = self.declared.bos_token_id, self.declared.eos_token_id

    def opened(self, task: SequenceTask, columns: Columns) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, mask) of the first token, if there is one, and the prompt, padded between the two."""
        ids, mask = self.tokens(task, columns["text"], task.max_length, special=False)
        if not ids.is_meta:
            ids, mask = left_padded(ids, mask)
        if self.begin is None:
            return ids, mask
        return (
            torch.cat([torch.full_like(ids[:, :1], self.begin), ids], 1),
            torch.cat([torch.ones_like(mask[:, :1]), mask], 1),
        )

    def prompt(self, task: SequenceTask, columns: Columns) -> Columns:
        """The prompt: what generation starts from."""
        return masked(*self.opened(task, columns))

    def encode(self, task: SequenceTask, columns: Columns) -> Columns:
        """The prompt, padded on the left of its text, then the target and the end token; ``targets`` are the target's tokens, (B, T).

        The last T positions predict them: what is fed ends one token before the end.
        """
        prompt, prompt_mask = self.opened(task, columns)
        target, target_mask = self.tokens(task, columns["target"], task.max_target - 1, special=False)
        ids, mask = closed(target, target_mask, self.end)
        fed, fed_mask = torch.cat([prompt, target], 1), torch.cat([prompt_mask, target_mask], 1)
        if fed.is_meta:
            # A mask of this form is taken as it is; any other is looked at, which the meta device cannot.
            inputs = {
                "input_ids": fed,
                "attention_mask": torch.zeros(len(fed), 1, fed.shape[1], fed.shape[1], device="meta"),
            }
        else:
            inputs = {**masked(fed, fed_mask), "position_ids": (fed_mask.cumsum(1) - 1).clamp(min=0)}
        return {**inputs, "targets": ids.masked_fill(mask == 0, IGNORED)}


def left_padded(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) with every row's padding moved from its end to its beginning."""
    length = ids.shape[1]
    place = (torch.arange(length, device=ids.device) + mask.sum(1, keepdim=True)) % length
    return ids.gather(1, place), mask.gather(1, place)


register("llama-tiny", Llama(32, 64, 2, 2, vocabulary=4000))
register(
    "smollm2-135m",
    Llama(
        576,
        1536,
        30,
        9,
        49152,
        key_heads=3,
        tied=True,
        hub="HuggingFaceTB/SmolLM2-135M",
        revision="93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
        citation="Ben Allal et al. 2025, arXiv 2502.02737",
    ),
)
ALPACA, VICUNA = "Taori et al. 2023, Stanford Alpaca", "Chiang et al. 2023, Vicuna"
register(
    "alpaca-7b",
    Llama(
        4096,
        11008,
        32,
        32,
        hub="chavinlo/alpaca-native",
        revision="3bf09cbff2fbd92d7d88a0f70ba24fca372befdf",
        citation=ALPACA,
    ),
)
register("alpaca-13b", Llama(5120, 13824, 40, 40, hub="chavinlo/alpaca-13b", citation=ALPACA))
register(
    "vicuna-7b",
    Llama(
        4096,
        11008,
        32,
        32,
        hub="lmsys/vicuna-7b-v1.3",
        revision="236eeeab96f0dc2e463f2bebb7bb49809279c6d6",
        citation=VICUNA,
    ),
    "vicuna-7b-v1.3",
)
register(
    "vicuna-13b",
    Llama(
        5120,
        13824,
        40,
        40,
        hub="lmsys/vicuna-13b-v1.3",
        revision="6566e9cb1787585d1147dcf4f9bc48f29e1328d2",
        citation=VICUNA,
    ),
    "vicuna-13b-v1.3",
)
