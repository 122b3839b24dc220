"""Forget sets that somebody released: lists of ids, or masks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mubench_ray.errors import DataError, MubenchError
from mubench_ray.files import sha256
from mubench_ray.forget.base import Draw, Sampler, sampler
from mubench_ray.forget.lists import READERS, is_mask, read_numbers, released
from mubench_ray.tasks.base import Task
from mubench_ray.tasks.examples import Examples
from mubench_ray.trial import digest


@sampler("from_file", title="A list of ids in order of deletion, or a 0/1 mask with an entry an example")
class FromFile(Sampler):
    """The lists that MU-Bench released, and yours in their form.

    Ids count positions of the data set's original training list. Those that fall into D_V were never trained on and are passed over; the manifest says
    how many. ``path`` is a file (text, ``.csv``, ``.json``, ``.npy``, ``.pt``), or a folder with one mask a ratio (``1.txt``, ``10.0.txt``, ...); ``sha256``
    is that of its content, by which it counts: found when it is planned, and held to when it is read. MU-Bench's own are known by what they hold, and
    refused on data that they do not number.
    """

    exact = False

    path: str
    sha256: str | None = None

    def order(self, train: Examples, draw: Draw) -> Tensor:
        """The listed examples; raises DataError naming the file and what is wrong in it."""
        path = self.file(draw.ratio)
        self._held(path)
        numbers = self._numbers(draw.ratio)
        position = {source: row for row, source in enumerate(train.source_index.tolist())}
        largest = max(position)
        # Of D alone it is known only about where the training list ends.
        least, most = (draw.listed, draw.listed) if draw.listed else (largest + 1, int(largest * 1.02) + 21)
        about = f"a training list of {'' if draw.listed else 'about '}{least} examples; is it another data set's?"
        if is_mask(numbers):
            if not least <= len(numbers) <= most:
                raise DataError(f"{path}: a mask of {len(numbers)} entries does not fit {about}")
            numbers = [row for row, chosen in enumerate(numbers) if chosen]
        if len(set(numbers)) != len(numbers):
            raise DataError(f"{path}: an id is listed twice.")
        if (top := max(numbers, default=0)) >= most:
            raise DataError(f"{path}: id {top} does not fit {about}")
        return torch.tensor([position[i] for i in numbers if i in position], dtype=torch.int64)

    def size(self, order: Tensor, train: Examples, draw: Draw) -> int:
        """The ratio's part of a list, which may lack a tenth for what lies in D_V; a mask is one ratio's whole set, not a prefix."""
        path, wanted = self.file(draw.ratio), round(len(train) * draw.ratio / 100)
        if len(order) < 0.9 * wanted:
            covered = 100 * len(order) / len(train)
            raise MubenchError(
                f"{path} covers {covered:.2f}% of the training split; ratio {draw.ratio:g}% asks for more."
            )
        return len(order) if is_mask(self._numbers(draw.ratio)) else wanted

    @property
    def random(self) -> bool:
        """A list is what it is."""
        return False

    def lists(self) -> str | None:
        """Of a folder, a hash of all its lists."""
        path = Path(self.path)
        return digest({file.name: sha256(file) for file in _lists_in(path)}) if path.is_dir() else None

    def refusal(self, task: type[Task], ratio: float) -> str | None:
        """A released list numbers one data set's training examples, and those of no other."""
        path = self.file(ratio)
        known = released(read_numbers(path))
        if known is None or any(getattr(kind, "numbered_as", None) in known.tasks for kind in task.__mro__):
            return None
        fitting = f"take it on {' or '.join(known.tasks)}" if known.tasks else "no task here has them"
        return (
            f"{path} is MU-Bench's {known.list}, which numbers the {known.numbers}, not those of {task.name}: {fitting}"
        )

    def prepared(self, ratio: float) -> FromFile:
        """With the hash of this ratio's list; raises DataError where that is not the one that was named, and for a mask of another ratio."""
        self._numbers(ratio)
        return FromFile(path=self.path, sha256=self._held(self.file(ratio)))

    def _numbers(self, ratio: float) -> list[int]:
        path = self.file(ratio)
        numbers = read_numbers(path)
        marked = 100 * sum(numbers) / len(numbers)
        # MU-Bench's own hold up to 6 % more than they are named for.
        if is_mask(numbers) and not 0.9 * ratio <= marked <= 1.1 * ratio:
            raise DataError(
                f"{path}: a mask is one ratio's whole set, and this one marks {marked:.4g} % of its lines: ratio {ratio:g} is another."
            )
        return numbers

    def _held(self, path: Path) -> str:
        found = sha256(path)
        if self.sha256 not in (None, found):
            raise DataError(
                f"{path}: its SHA-256 is {found[:12]}..., not {self.sha256[:12]}... as named: it is another list."
            )
        return found

    def file(self, ratio: float) -> Path:
        """The file of a ratio; raises DataError where there is none."""
        path = Path(self.path)
        if path.is_dir():
            there = [file for file in _lists_in(path) if file.stem in (f"{ratio:g}", f"{ratio:.1f}")]
            if len(there) == 1:
                return there[0]
            names = [file.name for file in there or _lists_in(path)]
            many = f"{len(there)} lists" if there else "no list"
            raise DataError(f"{path}: has {many} for ratio {ratio:g}; it holds {names}.")
        if not path.is_file():
            raise DataError(f"{path}: no such forget list.")
        return path


def _lists_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in READERS)
