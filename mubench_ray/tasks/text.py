"""Tasks that read text: the texts by number, so that a batch is numbers and each text is tokenised once, whatever model reads it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, ClassVar

import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Classification, Columns, Task


class Texts:
    """The texts of a task, and the numbers of those that belong to D; of pairs ``second`` has what is read after each.

    ``tokens`` and ``tokenizers`` keep what models made of the texts, so that nothing is tokenised or trained twice.
    """

    def __init__(self, content: list[str], training: list[int], second: list[str] | None = None) -> None:
        self.content, self.training, self.second = content, training, second
        self.tokens: dict[Any, Any] = {}
        self.tokenizers: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.content)

    def of_training(self, most: int | None = None) -> list[str]:
        """The texts of D, or the first ``most`` of them; of pairs the second ones after those."""
        chosen = self.training[:most]
        return [column[i] for column in (self.content, self.second) if column is not None for i in chosen]

    @cached_property
    def sha256(self) -> str:
        """Hash of all texts and of which belong to D."""
        digest = hashlib.sha256()
        for text in self.content:
            digest.update(text.encode() + b"\x00")
        for text in self.second or ():
            digest.update(b"\x01" + text.encode() + b"\x00")
        digest.update(",".join(map(str, self.training)).encode())
        return digest.hexdigest()


class TextTask(Task):
    """What tasks with text share, whatever their kind: a table of texts that columns refer to by number."""

    #: Tokens that a text is cut to.
    max_length: ClassVar[int] = 128
    #: Whether each text is followed by a second one.
    pairs: ClassVar[bool] = False
    #: Strings that a tokenizer of our own keeps whole.
    markers: ClassVar[tuple[str, ...]] = ()
    _texts: Texts | None = None

    @property
    def texts(self) -> Texts:
        """The texts; raises DataError before ``load``."""
        if self._texts is None:
            raise DataError(f"task {self.name}: its texts are there only after load().")
        return self._texts

    def keep_texts(self, content: list[str], training: list[int], second: list[str] | None = None) -> None:
        """Called by ``load`` with all texts and the numbers of those in D; of pairs with what is read after each."""
        self._texts = Texts(content, training, second)


class TextClassification(TextTask, Classification):
    """Texts in column ``text`` (int64, numbers of the task's texts) with ``labels``."""

    modality = "text"

    def blank(self, rows: int) -> Columns:
        """Text 0 and class 0."""
        zeros = torch.zeros(rows, dtype=torch.int64)
        return {"text": zeros, "labels": zeros.clone(), "index": torch.arange(rows)}
