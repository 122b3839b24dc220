"""D_F and D_R as a sampler draws them, the manifest that is written beside the results, and the halves of a shadow pool."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mubench_ray.errors import MubenchError
from mubench_ray.forget.base import Draw, Sampler, Scores, configured
from mubench_ray.forget.scored import Scored
from mubench_ray.randomness import numpy_generator
from mubench_ray.tasks.examples import Examples
from mubench_ray.trial import ForgetSet


@dataclass(frozen=True)
class ForgetSplit:
    """D_F and D_R as positions of the training split (int64, sorted, disjoint, together everything), and the sampler that drew them."""

    forget: Tensor
    retain: Tensor
    manifest: dict[str, Any]
    sampler: Sampler


def split_forget(train: Examples, forget: ForgetSet, scores: tuple[Scores, ...] = (), listed: int = 0) -> ForgetSplit:
    """Draw D_F (ratio% of the training split) and D_R (the rest); ``scores`` are those of the forget set's scoring networks on ``train``, ``listed`` says how
    long the data's own training list is (``Splits``).

    Raises MubenchError when D_F would be empty, everything or not of D, for an option that the sampler has not, and where scores are missing.
    """
    sampler = configured(forget)
    draw = Draw(forget.ratio, numpy_generator(sampler.name, forget.seed), scores, listed)
    if isinstance(sampler, Scored) and not scores:
        raise MubenchError(f"sampler {forget.sampler} reads the scores of a network, and none are at hand.")
    if round(len(train) * forget.ratio / 100) < 1:
        raise MubenchError(
            f"ratio {forget.ratio:g}% of {len(train)} training examples is an empty forget set; use a larger ratio."
        )
    order = sampler.order(train, draw)
    wanted = sampler.size(order, train, draw)
    chosen = order[:wanted].sort().values
    if outside := [int(row) for row in chosen[[0, -1][: len(chosen)]] if not 0 <= row < len(train)]:
        raise MubenchError(f"sampler {forget.sampler} orders example {outside[0]}, and D has 0 to {len(train) - 1}.")
    keep = torch.ones(len(train), dtype=torch.bool)
    keep[chosen] = False
    retain = keep.nonzero().flatten()
    if len(chosen) + len(retain) != len(train):
        raise MubenchError(f"sampler {forget.sampler} orders an example more than once.")
    if not len(chosen) or not len(retain):
        raise MubenchError(
            f"forget set {forget.model_dump(exclude_none=True)} leaves {len(chosen)} to forget and {len(retain)} to keep."
        )
    source = train.source_index[chosen].tolist()
    manifest = {
        "sampler": forget.sampler,
        "ratio": forget.ratio,
        "seed": forget.seed,
        "options": forget.options,
        **({"scored_by": forget.scored_by.id} if forget.scored_by else {}),
        "train_size": len(train),
        "wanted": wanted,
        "forget_size": len(chosen),
        "sha256": hashlib.sha256(",".join(map(str, source)).encode()).hexdigest(),
        "indices": source,
    }
    return ForgetSplit(chosen, retain, manifest, sampler)


def halves(size: int, half: int) -> tuple[Tensor, Tensor]:
    """Positions (sorted) of half number ``half`` of ``size`` training examples, and of all others.

    Halves 2k and 2k + 1 complement each other, so that of an even number of halves every example is in exactly one half of them (Carlini et al. 2022,
    arXiv 2112.03570, section V). All halves are of one size, so that an odd example out is in neither: a single example more is one more batch an epoch,
    which attacks can tell.
    """
    order = torch.from_numpy(numpy_generator("half", half // 2).permutation(size))
    own = order[: size // 2] if half % 2 == 0 else order[size - size // 2 :]
    outside = torch.ones(size, dtype=torch.bool)
    outside[own] = False
    return own.sort().values, outside.nonzero().flatten()
