"""Forget sets: named samplers that order the training set, and the manifest that is written beside the results.

A sampler returns positions of the training split in order of deletion, so that r % is a prefix and the sets are nested, as MU-Bench
releases them. D_F is only ever drawn from the training split: D_V and D_Test hold no position it could name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mubench_ray.errors import DataError, MubenchError, UnknownName, did_you_mean
from mubench_ray.randomness import numpy_generator
from mubench_ray.tasks.base import Examples
from mubench_ray.trial import ForgetSet


@dataclass(frozen=True)
class ForgetSplit:
    """D_F and D_R as positions of the training split (int64, sorted, disjoint, together everything)."""

    forget: Tensor
    retain: Tensor
    manifest: dict[str, Any]


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


def uniform(train: Examples, forget: ForgetSet) -> Tensor:
    """Every example equally likely."""
    return torch.from_numpy(numpy_generator("uniform", forget.seed).permutation(len(train)))


def class_balanced(train: Examples, forget: ForgetSet) -> Tensor:
    """Shuffled so that every prefix holds each class in its own proportion (MU-Bench's released lists)."""
    rng = numpy_generator("class_balanced", forget.seed)
    labels = train.labels.numpy()
    key = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        key[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return torch.from_numpy(np.argsort(key, kind="stable"))


def by_class(train: Examples, forget: ForgetSet) -> Tensor:
    """The examples of the classes named in ``options: {classes: [...]}``, and no others: ratio% of the training set at most."""
    classes = forget.options.get("classes")
    if not classes:
        raise MubenchError("sampler 'class' needs options: {classes: [0, ...]} with at least one class number.")
    labels = train.labels
    known = set(labels.unique().tolist())
    if missing := [c for c in classes if c not in known]:
        raise MubenchError(f"sampler 'class': class {missing[0]} is not in the training set; it has {sorted(known)}.")
    rows = torch.isin(labels, torch.tensor(classes)).nonzero().flatten()
    return rows[torch.from_numpy(numpy_generator("class", forget.seed).permutation(len(rows)))]


def from_file(train: Examples, forget: ForgetSet) -> Tensor:
    """A list of ids, one a line in order of deletion, or a 0/1 mask with a line an example, as MU-Bench released them.

    Ids count positions of the data set's original training list. Those that fall into D_V were never trained on and are
    passed over; the manifest says how many.
    """
    path = list_file(forget)
    numbers = read_numbers(path)
    if _is_mask(numbers):
        numbers = [row for row, chosen in enumerate(numbers) if chosen]
    position = {source: row for row, source in enumerate(train.source_index.tolist())}
    if len(set(numbers)) != len(numbers):
        raise DataError(f"{path}: an id is listed twice.")
    largest = max(position)
    if (top := max(numbers)) > largest * 1.02 + 20:
        raise DataError(
            f"{path}: id {top} does not fit a training list of about {largest + 1} examples; is it another data set's?"
        )
    return torch.tensor([position[i] for i in numbers if i in position], dtype=torch.int64)


SAMPLERS: dict[str, Callable[[Examples, ForgetSet], Tensor]] = {
    "uniform": uniform,
    "class_balanced": class_balanced,
    "class": by_class,
    "from_file": from_file,
}


def check_sampler(name: str) -> str:
    """The sampler's name; raises UnknownName."""
    if name not in SAMPLERS:
        raise UnknownName(f"Unknown sampler {name!r}. {did_you_mean(name, SAMPLERS)}")
    return name


def list_file(forget: ForgetSet) -> Path:
    """The file of a ``from_file`` forget set; a folder holds one mask a ratio (``1.txt``, ``10.0.txt``, ...)."""
    given = forget.options.get("path")
    if not given:
        raise MubenchError("sampler 'from_file' needs options: {path: FILE}.")
    path = Path(given)
    if path.is_dir():
        for name in (f"{forget.ratio:g}.txt", f"{forget.ratio:.1f}.txt"):
            if (path / name).is_file():
                return path / name
        raise DataError(
            f"{path}: has no list for ratio {forget.ratio:g}; it holds {sorted(f.name for f in path.glob('*.txt'))}."
        )
    if not path.is_file():
        raise DataError(f"{path}: no such forget list.")
    return path


def read_numbers(path: Path) -> list[int]:
    """The numbers of a list file, one a line; raises DataError naming the line."""
    numbers = []
    for line_number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            number = int(line)
        except ValueError:
            raise DataError(f"{path}:{line_number}: {line.strip()[:40]!r} is not an id.") from None
        if number < 0:
            raise DataError(f"{path}:{line_number}: id {number} is negative.")
        numbers.append(number)
    if not numbers:
        raise DataError(f"{path}: lists no ids.")
    return numbers


def _is_mask(numbers: list[int]) -> bool:
    return len(numbers) > 2 and set(numbers) <= {0, 1}


def split_forget(train: Examples, forget: ForgetSet) -> ForgetSplit:
    """Draw D_F (ratio% of the training split) and D_R (the rest); raises MubenchError when D_F would be empty or everything."""
    order = SAMPLERS[check_sampler(forget.sampler)](train, forget)
    wanted = round(len(train) * forget.ratio / 100)
    if wanted < 1:
        raise MubenchError(
            f"ratio {forget.ratio:g}% of {len(train)} training examples is an empty forget set; use a larger ratio."
        )
    if forget.sampler == "from_file":
        if len(order) < 0.9 * wanted:
            covered = 100 * len(order) / len(train)
            raise MubenchError(
                f"{list_file(forget)} covers {covered:.2f}% of the training split; ratio {forget.ratio:g}% asks for more."
            )
        if _is_mask(read_numbers(list_file(forget))):
            wanted = len(order)  # a mask is one ratio's whole set, not a prefix
    chosen = order[:wanted].sort().values
    keep = torch.ones(len(train), dtype=torch.bool)
    keep[chosen] = False
    retain = keep.nonzero().flatten()
    if not len(chosen) or not len(retain):
        raise MubenchError(
            f"forget set {forget.model_dump()} leaves {len(chosen)} to forget and {len(retain)} to keep."
        )
    source = train.source_index[chosen].tolist()
    manifest = {
        "sampler": forget.sampler,
        "ratio": forget.ratio,
        "seed": forget.seed,
        "options": {key: str(value) if key == "path" else value for key, value in forget.options.items()},
        "train_size": len(train),
        "wanted": wanted,
        "forget_size": len(chosen),
        "sha256": hashlib.sha256(",".join(map(str, source)).encode()).hexdigest(),
        "indices": source,
    }
    return ForgetSplit(chosen, retain, manifest)
