"""Tokenizers: the one that belongs to published weights, or one trained on D's own text; texts become numbers once and are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.models.places import located, reason_of
from mubench_ray.models.processor import lies
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.text import Texts

PAD, UNKNOWN, FIRST, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Where a tokenizer trained here says, in its own config, for how large an embedding it was.
TRAINED_FOR = "trained_for_vocabulary"
MEND = "Put the files of the tokenizer that the network was trained with beside its weights."


class Tokens(NamedTuple):
    """Tokens of all texts, int32 (texts, length), padded at the end, and how many of each row are not padding, int64 (texts,); of pairs also how many of
    those are of the first text."""

    ids: Tensor
    lengths: Tensor
    first: Tensor | None = None


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
        pair=f"{FIRST} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(FIRST, ids[FIRST]), (SEPARATOR, ids[SEPARATOR])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=SEPARATOR,
        mask_token=MASK,
        **{TRAINED_FOR: vocabulary},
    )


def load_tokenizer(source: str, revision: str | None, vocabulary: int) -> Any:
    """The tokenizer beside published weights whose embedding has ``vocabulary`` rows. Its code is never run.

    Raises MubenchError where there is none (transformers would make one of the special tokens alone, which reads every word as unknown), and where it
    has more pieces than the embedding has rows or fewer than half of them, unless ``train_wordpiece`` made it for an embedding of that size.
    """
    from transformers import AutoTokenizer

    place = located(source, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**place, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # the tokenizers library raises Exception itself
        raise MubenchError(
            f"{source!r}: its tokenizer is missing or cannot be loaded: {reason_of(error)} {MEND}"
        ) from error
    if "gguf_file" not in place and not lies(source, revision, "tokenizer.json"):
        own = [name for what, name in tokenizer.vocab_files_names.items() if what != "tokenizer_file"]
        lacking = [name for name in own if not lies(source, revision, name)]
        if lacking or not own:
            wanted = " and no ".join(["tokenizer.json", *lacking])
            raise MubenchError(f"{source!r}: has no tokenizer: there is no {wanted}. {MEND}")
    pieces = tokenizer.vocab_size
    small = pieces < vocabulary / 2 and tokenizer.init_kwargs.get(TRAINED_FOR) != vocabulary
    if pieces > vocabulary or small:
        raise MubenchError(
            f"{source!r}: its tokenizer has {pieces} pieces and the network's embedding {vocabulary} rows: they do not belong together. {MEND}"
        )
    return tokenizer


@dataclass(frozen=True)
class Reader:
    """Which tokenizer reads a task's texts: that of published weights (``source``, a folder or hub id at ``revision``) whose embedding has
    ``vocabulary`` rows, or one of at most ``vocabulary`` pieces trained on D's texts, which keeps ``markers`` whole."""

    vocabulary: int
    markers: tuple[str, ...] = ()
    source: str | None = None
    revision: str | None = None

    def tokenizer(self, texts: Texts) -> Any:
        """The tokenizer, loaded or trained once for a set of texts."""
        if self not in texts.tokenizers:
            if self.source is not None:
                tokenizer = load_tokenizer(self.source, self.revision, self.vocabulary)
                self._check_reads(tokenizer, texts)
            else:
                tokenizer = train_wordpiece(texts.of_training(), self.vocabulary, self.markers)
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

            def rows() -> Iterator[Row]:
                pairs = {"return_token_type_ids": True} if texts.second else {}
                options = {"truncation": True, "max_length": length, "padding": "max_length", "padding_side": "right"}
                encoded = self.tokenizer(texts)(
                    texts.content, texts.second, **options, **pairs, add_special_tokens=special, return_tensors="np"
                )
                if (highest := int(encoded["input_ids"].max())) >= self.vocabulary:
                    raise MubenchError(
                        f"{self.source or name!r}: its tokenizer gives token {highest}, and the network's embedding has {self.vocabulary} rows. {MEND}"
                    )
                lengths = encoded["attention_mask"].sum(1)
                seconds = encoded["token_type_ids"].sum(1) if "token_type_ids" in encoded else lengths * 0
                for place, ids in enumerate(encoded["input_ids"].astype("int32")):
                    row = {"input_ids": ids, "length": int(lengths[place]), "source_index": place}
                    yield row | ({"first": int(lengths[place] - seconds[place])} if texts.second else {})

            examples = converted(f"tokens-{name}", made_from, rows)
            everything = torch.arange(len(examples))
            ids = examples.mapped["input_ids"].take(everything)
            texts.tokens[key] = Tokens(ids, examples.columns["length"], examples.columns.get("first"))
        return texts.tokens[key]

    def _identity(self) -> list:
        """What the tokenizer is made from, as JSON holds it; of a folder every file counts, since any may be its tokenizer's."""
        if self.source is None:
            return [self.vocabulary, list(self.markers)]
        return [self.source, self.revision, self.vocabulary, files_of(self.source)]

    def _check_reads(self, tokenizer: Any, texts: Texts) -> None:
        """Raise MubenchError where most pieces of some of D's texts are unknown to the tokenizer."""
        sample = texts.of_training(64)
        pieces = [piece for ids in tokenizer(sample, add_special_tokens=False)["input_ids"] for piece in ids]
        unknown = pieces.count(tokenizer.unk_token_id)
        if 2 * unknown > len(pieces):
            raise MubenchError(
                f"{self.source!r}: its tokenizer reads {unknown} of {len(pieces)} pieces as {tokenizer.unk_token} ({sample[0][:60]!r} is one of the "
                f"texts): it is not for them, or not whole. {MEND}"
            )


def files_of(source: str) -> list[list]:
    """Names, sizes and times of a checkpoint's files; none of a hub id, which its revision fixes."""
    path = Path(source)
    return fingerprint(
        path.parent, [path] if path.is_file() else sorted(file for file in path.glob("*") if file.is_file())
    )
