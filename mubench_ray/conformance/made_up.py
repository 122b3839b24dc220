"""Made-up examples of any task, for which none of its data need be there."""

from __future__ import annotations

import torch

from mubench_ray.randomness import torch_generator
from mubench_ray.tasks.base import Columns, Examples, Task
from mubench_ray.tasks.sequence import SequenceTask
from mubench_ray.tasks.text import TextTask
from mubench_ray.tasks.text_to_image import Pictures, TextToImage


def made_up(task: Task, rows: int = 4) -> Columns:
    """``rows`` random examples in the shapes that the task's ``blank`` says; a task that keeps texts or pictures is given made-up ones to keep."""
    generator = torch_generator("made up", task.name)
    columns = {
        name: column if name == "index" else _drawn(column, generator) for name, column in task.blank(rows).items()
    }
    columns["labels"] = torch.arange(rows) % getattr(task, "classes", 1)
    numbers = torch.arange(rows)
    texts = [f"sentence {number} about {['one', 'two', 'three', 'four'][number % 4]} things" for number in range(rows)]
    if isinstance(task, SequenceTask):
        return task.splits_of([(text, f"{text}, in short") for text in texts], [], []).train.take(numbers)
    if isinstance(task, TextToImage):
        shape = (rows, 3, task.size, task.size)
        image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        train = Examples({"text": numbers, "picture": numbers, "labels": columns["labels"]}, numbers)
        task.keep(texts, Pictures(Examples({"image": image}, numbers)), train)
        return train.take(numbers)
    if isinstance(task, TextTask):
        task.keep_texts(texts, numbers.tolist())
        columns["text"] = numbers
    return columns


def _drawn(blank: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if blank.is_floating_point():
        return torch.rand(blank.shape, generator=generator, dtype=blank.dtype)
    span = torch.iinfo(blank.dtype)
    return torch.randint(span.min, span.max, blank.shape, generator=generator, dtype=blank.dtype)
