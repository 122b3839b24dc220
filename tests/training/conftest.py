from __future__ import annotations

import pytest
import torch

from mubench_ray.models import MODELS
from mubench_ray.randomness import torch_generator
from mubench_ray.tasks import TASKS, Examples
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.meter import Meter


@pytest.fixture
def make_context():
    """A context over 100 random pictures, 20 of them to be forgotten."""

    def make(model="cnn-small", seed=1, lr=0.01, meter=None, size=100):
        task = TASKS.get("digits")()
        generator = torch_generator("pictures")
        image = torch.randint(0, 256, (size, 1, 8, 8), dtype=torch.uint8, generator=generator)
        train = Examples(
            {"image": image, "labels": torch.randint(0, 10, (size,), generator=generator)}, torch.arange(size)
        )
        sets = {
            "forget": Rows(train, torch.arange(20)),
            "retain": Rows(train, torch.arange(20, size)),
            "validation": Rows.all_of(train.select(torch.arange(10))),
        }
        torch.manual_seed(0)
        network = MODELS.get(model).build(task)
        ctx = Context(
            task, MODELS.get(model), network, UnlearningData(task, MODELS.get(model), sets), seed, meter or Meter(), lr
        )
        ctx.keep_original()
        return ctx

    return make
