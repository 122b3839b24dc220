"""Tasks whose target is text: sequence to sequence, and a causal language model that continues a prompt."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.tasks.base import Batch, Columns, Examples, Splits
from mubench_ray.tasks.facts import factual_overlap
from mubench_ray.tasks.rouge import rouge_l
from mubench_ray.tasks.text import TextTask

#: Value of a target token that does not count: padding, or the prompt.
IGNORED = -100


class SequenceTask(TextTask):
    """A source text in column ``text`` and a target text in ``target`` (int64, numbers of the task's texts); ``labels`` is 0 throughout.

    A model's inputs hold ``targets``, the tokens to be predicted, int64 (B, T) with IGNORED where none counts; its logits are (B, T, V).
    An example's loss is the mean over its target's tokens, so that long targets weigh no more than short ones.
    """

    modality = "text"
    reads_targets = True
    relabels_from = "target"
    #: Tokens that a target is cut to.
    max_target: ClassVar[int] = 64
    #: Logits over a whole vocabulary are large: examples of one evaluation batch.
    evaluation_batch = 32
    judged = 32
    _pool: Tensor | None = None

    def splits_of(self, *parts: list[tuple[str, str]], **shifted: list[tuple[str, str]]) -> Splits:
        """The splits of (source, target) pairs for D, D_V and D_Test, and the shifted sets that are not empty; keeps the texts, and D's targets as
        what relabelling draws from."""
        contents: list[str] = []
        splits = []
        shifted = {name: pairs for name, pairs in shifted.items() if pairs}
        for pairs in (*parts, *shifted.values()):
            text = torch.arange(len(pairs)) * 2 + len(contents)
            columns = {"text": text, "target": text + 1, "labels": torch.zeros(len(pairs), dtype=torch.int64)}
            splits.append(Examples(columns, torch.arange(len(pairs))))
            contents += [side for pair in pairs for side in pair]
        self.keep_texts(contents, list(range(2 * len(parts[0]))))
        self._pool = splits[0].columns["target"]
        train, validation, test, *more = splits
        return Splits(train, validation, test, dict(zip(shifted, more)))

    def blank(self, rows: int) -> Columns:
        """Text 0 and target 0."""
        return {name: torch.zeros(rows, dtype=torch.int64) for name in ("text", "target", "labels")} | {
            "index": torch.arange(rows)
        }

    def outputs(self, network: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, T, V) of the tokens in ``targets``."""
        inputs = {name: column for name, column in batch.inputs.items() if name != "targets"}
        return network(**inputs, use_cache=False).logits[:, -batch.inputs["targets"].shape[1] :]

    def judge(self, model: Any, network: nn.Module, columns: Columns, device: str = "cpu") -> dict[str, np.ndarray]:
        """``rouge_l`` (F1) and ``rouge_l_recall`` of what is written for each source, in [0, 1]; nothing where rouge-score is not installed."""
        if find_spec("rouge_score") is None:
            return {}
        parts = [
            {name: column[rows] for name, column in columns.items()}
            for rows in torch.arange(len(columns["text"]), device=columns["text"].device).split(self.evaluation_batch)
        ]
        written = [text for part in parts for text in self.generate(model, network, part)]
        scores = rouge_l(written, self.references(columns))
        found = {"rouge_l": np.array([s.f1 for s in scores]), "rouge_l_recall": np.array([s.recall for s in scores])}
        return found | self.judge_texts(written, columns)

    def judge_texts(self, written: list[str], columns: Columns) -> dict[str, np.ndarray]:
        """Further scores of what was written."""
        return {}

    @torch.no_grad()
    def generate(self, model: Any, network: Any, columns: Columns) -> list[str]:
        """What the network writes for every source, greedily, at most ``max_target`` tokens and at least 4: a model tuned
        for chat ends at once after a prompt without its chat template."""
        inputs = model.prompt(self, columns)
        written = network.generate(
            **inputs,
            max_new_tokens=self.max_target,
            min_new_tokens=4,
            do_sample=False,
            eos_token_id=model.end,
            pad_token_id=model.padding,
        )
        return (
            model.reader(self)
            .tokenizer(self.texts)
            .batch_decode(self.new_tokens(written, inputs), skip_special_tokens=True)
        )

    def new_tokens(self, written: Tensor, inputs: Columns) -> Tensor:
        """The generated tokens without what generation started from."""
        return written

    def references(self, columns: Columns) -> list[str]:
        """The true targets as text."""
        return [self.texts.content[number] for number in columns["target"].tolist()]

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of each example, (B,), nats a token: the mean over its target's tokens."""
        return -self.log_likelihoods(outputs, batch) / self.tokens(batch)

    def log_likelihoods(self, outputs: Tensor, batch: Batch) -> Tensor:
        """log p of each target, (B,), nats: the sum over its tokens that count."""
        targets = batch.inputs["targets"]
        losses = F.cross_entropy(outputs.float().transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
        return -losses.sum(1)

    def tokens(self, batch: Batch) -> Tensor:
        """Tokens that count in each target, at least 1, float (B,)."""
        return (batch.inputs["targets"] != IGNORED).sum(1).clamp(min=1).float()

    def log_probs(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log-softmax over the vocabulary, (B, T, V). Where no token counts it is uniform, so that any two models agree there."""
        log_probs = F.log_softmax(outputs.float(), dim=-1)
        ignored = (batch.inputs["targets"] == IGNORED).unsqueeze(-1)
        return log_probs.masked_fill(ignored, -math.log(outputs.shape[-1]))

    def relabel(self, batch: Batch, draw: Tensor, keep_true: bool, pool: Tensor | None = None) -> Batch:
        """The target of an example of D, or one of the ``pool`` (rising), uniform over all of them (``keep_true``) or over the others."""
        if pool is None:
            pool = self._pool
        if pool is None:
            raise ValueError(f"task {self.name}: relabel needs load() first, which knows D's targets")
        pool = pool.to(batch["target"].device)
        own = torch.searchsorted(pool, batch["target"]).clamp_(max=len(pool) - 1)
        left_out = ((pool[own] == batch["target"]) & (not keep_true)).long()
        choices = (len(pool) - left_out).clamp_(min=1)
        step = torch.minimum((draw * choices).long(), choices - 1) + left_out
        return batch.replace(target=pool[(own + step) % len(pool)])

    def observe(self, outputs: Tensor, batch: Batch) -> Columns:
        """Mean loss a token, share of tokens predicted right given those before (not ROUGE: see ``rouge.py``), log p - log(1 - p) of the
        tokens' geometric mean probability p, mean entropy a token."""
        targets = batch.inputs["targets"]
        counted, counts = targets != IGNORED, self.tokens(batch)
        log_probs = F.log_softmax(outputs.float(), dim=-1)
        true = log_probs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        loss = -(true * counted).double().sum(1) / counts
        return {
            "loss": loss,
            "correct": (counted & (outputs.argmax(-1) == targets) & ~true.isnan()).sum(1).double() / counts,
            "confidence": -loss - torch.log(-torch.expm1(-loss.clamp(min=1e-12))),
            "entropy": (entropy * counted).double().sum(1) / counts,
        }


class SequenceToSequence(SequenceTask):
    """An encoder reads the source, a decoder writes the target."""

    kind = "sequence to sequence"


class CausalLanguageModel(SequenceTask):
    """One network reads the prompt and goes on with the target; only the target's tokens count."""

    kind = "causal language model"
    pretrained_original = True
    #: An example costs a language model seconds on a CPU.
    sampled = 32

    def judge_texts(self, written: list[str], columns: Columns) -> dict[str, np.ndarray]:
        """``factual_overlap``: the share of the reference's names, numbers and years that was written too."""
        prompts = [self.texts.content[number] for number in columns["text"].tolist()]
        return {"factual_overlap": np.array(factual_overlap(written, self.references(columns), prompts))}

    def new_tokens(self, written: Tensor, inputs: Columns) -> Tensor:
        """What follows the prompt."""
        return written[:, inputs["input_ids"].shape[1] :]
