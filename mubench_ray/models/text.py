"""Models that read one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import Model
from mubench_ray.models.checkpoint import TransformersModel
from mubench_ray.models.tokenizer import MEND, Reader, load_tokenizer
from mubench_ray.tasks.base import Columns
from mubench_ray.tasks.text import TextClassification, TextTask

ReadTask = TypeVar("ReadTask", bound=TextTask)


class TokenReader(TransformersModel[ReadTask]):
    """A model that reads tokens. Its tokenizer is its checkpoint's; without a checkpoint one is trained on D's text.

    ``vocabulary`` is the size of the embedding table of a network without a checkpoint.
    """

    vocabulary: int
    #: Number of the padding token; that of a checkpoint replaces it.
    padding = 0
    #: Tokens that the network has positions for.
    positions = 512
    #: The folder of its tokenizer, where it has one and no config.
    tokenizer_folder: str | None = None

    def adopt(self) -> None:
        """Take the checkpoint's vocabulary, padding and positions."""
        self.vocabulary = self.declared.vocab_size
        if getattr(self.declared, "pad_token_id", None) is not None:
            self.padding = self.declared.pad_token_id
        self.positions = min(getattr(self.declared, "max_position_embeddings", None) or self.positions, 100_000)

    def of_file(self, file: Path) -> TokenReader[ReadTask]:
        """As of every model; raises MubenchError where no tokenizer lies beside the weights: one of our own would number other pieces."""
        model = super().of_file(file)
        assert isinstance(model, TokenReader)
        if self.source is None:
            if not any((file.parent / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
                raise MubenchError(f"model {self.name}: {str(file)!r} has no tokenizer beside it. {MEND}")
            model.tokenizer_folder = str(file.parent)
        return model

    def reading_as(self, source: str, revision: str | None, base: Model[ReadTask] | None = None) -> Model[ReadTask]:
        """As of every model, with the original's tokenizer."""
        model = super().reading_as(source, revision, base)
        if isinstance(model, TokenReader) and isinstance(model.original, TokenReader):
            model.tokenizer_folder = model.original.tokenizer_folder
        return model

    def check(self, task: ReadTask, finished: bool = False) -> None:
        """Raise MubenchError also where the checkpoint's tokenizer is missing or not the network's, or a base has another one."""
        super().check(task, finished)
        reader = self.reader(task)
        if reader.source is None or not Path(reader.source).exists():
            return
        own = load_tokenizer(reader.source, reader.revision, self.vocabulary)
        if finished and isinstance(self.base, TokenReader):
            theirs = self.base.reader(task)
            if theirs.source is not None and Path(theirs.source).exists():
                other = load_tokenizer(theirs.source, theirs.revision, self.base.vocabulary)
                if own.get_vocab() != other.get_vocab():
                    raise MubenchError(
                        f"model {self.name}: the original {reader.source!r} and pretrained {theirs.source!r} have other tokenizers ({own.vocab_size} and "
                        f"{other.vocab_size} pieces, or other numbers for them): a retrain would read with numbers that its weights do not know. Name the "
                        "checkpoint that the original was trained from."
                    )

    def save(self, network: nn.Module, task: ReadTask, folder: Path) -> None:
        """As of every model, with the tokenizer."""
        super().save(network, task, folder)
        self.reader(task).tokenizer(task.texts).save_pretrained(folder)

    def reader(self, task: ReadTask) -> Reader:
        """Which tokenizer reads the task's texts."""
        source = self.tokenizer_folder or self.source
        return Reader(self.vocabulary, task.markers, source, self.revision)

    def tokens(self, task: ReadTask, numbers: Tensor, length: int, special: bool = True) -> tuple[Tensor, Tensor]:
        """Tokens of the task's texts, int64 (B, length), padded, and a mask of those that are not padding, int64 of the same shape."""
        if numbers.is_meta:
            ids = torch.zeros(len(numbers), length, dtype=torch.int64, device="meta")
            return ids, torch.ones_like(ids)
        table = self.reader(task).tokens(task.name, task.texts, length, special)
        ids, lengths = (part[numbers.cpu()].to(numbers.device) for part in table[:2])
        return ids.long(), (torch.arange(length, device=numbers.device) < lengths.unsqueeze(1)).long()


class TextModel(TokenReader[TextClassification]):
    """Reads ``input_ids`` and ``attention_mask`` of one text."""

    modality = "text"

    def encode(self, task: TextClassification, columns: Columns) -> Columns:
        """Tokens and mask, int64 (B, L), L the same for every batch; of pairs, for a network that tells the two texts apart, ``token_type_ids`` too."""
        length = min(task.max_length, self.positions)
        given = masked(*self.tokens(task, columns["text"], length))
        if task.pairs and not columns["text"].is_meta:
            # Of those that do not (DistilBERT, RoBERTa) forward takes none, or a table has one row.
            config = self.config(task) if self.declared is None else self.declared
            if (getattr(config, "type_vocab_size", 0) or 0) < 2:
                return given
            first = self.reader(task).tokens(task.name, task.texts, length).first
            if first is not None:
                first = first[columns["text"].cpu()].to(columns["text"].device).unsqueeze(1)
                second = torch.arange(length, device=first.device) >= first
                given["token_type_ids"] = second.long() * given["attention_mask"]
        return given


def masked(ids: Tensor, mask: Tensor) -> Columns:
    """``input_ids`` and ``attention_mask``; on the meta device, where networks cannot look at a mask, without it."""
    return {"input_ids": ids} if ids.is_meta else {"input_ids": ids, "attention_mask": mask}


class SizedTextModel(TextModel):
    """An encoder said by width, layers, heads and vocabulary."""

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        vocabulary: int = 30522,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.hidden, self.layers, self.heads, self.vocabulary = hidden, layers, heads, vocabulary
        self.hub, self.revision = hub, revision

    def settings(self, task: TextClassification) -> dict[str, Any]:
        """Width, layers, heads, vocabulary."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
            "max_position_embeddings": self.positions,
            "pad_token_id": self.padding,
        }
