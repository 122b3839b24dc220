"""FashionMNIST items in motion: a video task that is composed here, for no labelled real clips come without a hub."""

from __future__ import annotations

import torch
from torch import Tensor

from mubench_ray.randomness import torch_generator
from mubench_ray.tasks.base import TASKS, Card, Examples, Splits, carve_validation, task
from mubench_ray.tasks.video import VideoClassification
from mubench_ray.trial import Training

#: (dy, dx) of a step in pixels, and the number of steps after which it turns round.
MOTIONS = (
    (0, 2, 99),
    (0, -2, 99),
    (2, 0, 99),
    (-2, 0, 99),
    (2, 2, 99),
    (-2, -2, 99),
    (2, -2, 99),
    (-2, 2, 99),
    (0, 3, 2),
    (3, 0, 2),
)
#: Clips taken of FashionMNIST's training and test items.
TRAIN, TEST = 4000, 1000


@task("moving_fashion", "moving-fashion")
class MovingFashion(VideoClassification):
    """Eight frames of 48 x 48 in which a FashionMNIST item moves; the class is the motion, the start is drawn."""

    card = Card(
        title="Moving FashionMNIST, composed here",
        source="the task fashion_mnist",
        licence="MIT (FashionMNIST)",
        citation="Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747; composed for this benchmark",
        revision="1",
        sizes={"train": 3400, "validation": 600, "test": 1000},
        traps="Made-up motion of real pictures: it stands in for UCF101 where there are no clips and says nothing about real video.",
    )
    classes = len(MOTIONS)
    frames = 8
    channels = 1
    size = 48
    mean = (0.1,)
    std = (0.26,)
    training = Training(optimizer="adamw", lr=1e-3, epochs=10, batch_size=32, weight_decay=0.01, schedule="cosine")

    def load(self) -> Splits:
        """Compose the clips; raises DataError where FashionMNIST is not at hand."""
        items = TASKS.get("fashion_mnist")(self.data_dir).load()
        train = self.compose(items.train.columns["image"][:TRAIN, 0], "train")
        return Splits(*carve_validation(train), self.compose(items.test.columns["image"][:TEST, 0], "test"))

    def compose(self, items: Tensor, stream: str) -> Examples:
        """One clip of each item (N, 28, 28), motions in turn; an item that reaches the edge comes back at the other side."""
        labels = torch.arange(len(items)) % self.classes
        start = torch.randint(0, self.size, (len(items), 2), generator=torch_generator("moving_fashion", stream))
        canvas = torch.zeros(len(items), self.size, self.size, dtype=torch.uint8)
        canvas[:, :28, :28] = items
        grid = torch.arange(self.size)
        video = torch.empty(len(items), self.frames, 1, self.size, self.size, dtype=torch.uint8)
        dy, dx, turn = torch.tensor(MOTIONS)[labels].T
        place = start.clone()
        for frame in range(self.frames):
            rows = (grid[None] - place[:, :1]) % self.size
            columns = (grid[None] - place[:, 1:]) % self.size
            video[:, frame, 0] = canvas[torch.arange(len(items))[:, None, None], rows[:, :, None], columns[:, None, :]]
            direction = 1 - 2 * ((frame // turn) % 2)
            place = place + torch.stack([dy * direction, dx * direction], 1)
        return Examples({"video": video, "labels": labels}, torch.arange(len(items)))
