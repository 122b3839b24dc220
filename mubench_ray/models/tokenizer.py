"""Tokenizers: the one that belongs to published weights, or one trained on D's own text; texts become numbers once and are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.models.checkpoint import located
from mubench_ray.tasks.conversion import converted
from mubench_ray.tasks.text import Texts

PAD, UNKNOWN, FIRST, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokens(NamedTuple):
    """Tokens of all texts, int32 (texts, length), padded at the end, and how many of each row are not padding, int64 (texts,)."""

    ids: Tensor
    lengths: Tensor


def train_wordpiece(texts: list[str], vocabulary: int, markers: tuple[str, ...] = ()) -> Any:
    """A lower-casing WordPiece tokenizer of at most ``vocabulary`` pieces; ``[PAD]`` is 0. The same texts give the same pieces.

    ``markers`` are kept whole.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    scratch = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    scratch.normalizer, scratch.pre_tokenizer = normalizer, splitter
    # The trainer numbers the pieces of one letter within a word in the order of a hash map, and breaks ties by number: given beforehand, in
    # alphabetical order, every process trains the same pieces.
    letters = sorted({letter for text in texts for letter in normalizer.normalize_str(text) if not letter.isspace()})
    fixed = [*SPECIAL, *markers, *(f"##{letter}" for letter in letters)]
    scratch.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=fixed, show_progress=False)
    )
    tokenizer = Tokenizer(models.WordPiece(scratch.get_vocab(), unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([*SPECIAL, *markers])
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {SEPARATOR}",
        pair=f"{FIRST} $A {SEPARATOR} $B {SEPARATOR}",
        special_tokens=[(FIRST, ids[FIRST]), (SEPARATOR, ids[SEPARATOR])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=SEPARATOR,
        mask_token=MASK,
    )


def load_tokenizer(source: str, revision: str | None) -> Any:
    """The tokenizer beside published weights; raises MubenchError where there is none. Its code is never run."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(**located(source, revision), trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise MubenchError(
            f"{source!r}: has no tokenizer that can be loaded: {' '.join(str(error).split())}"
        ) from error


@dataclass(frozen=True)
class Reader:
    """Which tokenizer reads a task's texts: that of published weights (``source``, a folder or hub id at ``revision``), or one of at most
    ``vocabulary`` pieces trained on D's texts, which keeps ``markers`` whole."""

    vocabulary: int
    markers: tuple[str, ...] = ()
    source: str | None = None
    revision: str | None = None

    def tokenizer(self, texts: Texts) -> Any:
        """The tokenizer, loaded or trained once for a set of texts."""
        if self not in texts.tokenizers:
            if self.source is not None:
                tokenizer = load_tokenizer(self.source, self.revision)
            else:
                tokenizer = train_wordpiece([texts.content[i] for i in texts.training], self.vocabulary, self.markers)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
            texts.tokenizers[self] = tokenizer
        return texts.tokenizers[self]

    def tokens(self, name: str, texts: Texts, length: int, special: bool = True) -> Tokens:
        """Tokens of every text, cut and padded at the end to ``length``; ``special`` adds those that open and close a text.

        Made once, kept on the texts and in the cache.
        """
        key = (self, length, special)
        if key not in texts.tokens:
            made_from = ["tokens", 2, texts.sha256, length, special, *self._identity()]

            def rows():
                options = {"truncation": True, "max_length": length, "padding": "max_length", "padding_side": "right"}
                encoded = self.tokenizer(texts)(
                    texts.content, **options, add_special_tokens=special, return_tensors="np"
                )
                lengths = encoded["attention_mask"].sum(1)
                for place, ids in enumerate(encoded["input_ids"].astype("int32")):
                    yield {"input_ids": ids, "length": int(lengths[place]), "source_index": place}

            examples = converted(f"tokens-{name}", made_from, rows)
            everything = torch.arange(len(examples))
            texts.tokens[key] = Tokens(examples.mapped["input_ids"].take(everything), examples.columns["length"])
        return texts.tokens[key]

    def _identity(self) -> list:
        """What the tokenizer is made from, as JSON holds it; a folder's own file counts with its time."""
        if self.source is None:
            return [self.vocabulary, list(self.markers)]
        path = Path(self.source)
        file = path if path.is_file() else path / "tokenizer.json"
        return [self.source, self.revision, file.stat().st_mtime_ns if file.is_file() else None]
