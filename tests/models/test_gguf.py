"""The one real language model that comes without a hub."""

import os
from pathlib import Path

import pytest
import torch

from mubench_ray.models import get_model
from mubench_ray.tasks.base import Batch
from mubench_ray.training.data import Rows, UnlearningData

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_gguf_file_is_a_checkpoint(loaded):
    pytest.importorskip("gguf")
    path = Path(os.environ.get("MUBENCH_MODELS", "")) / FILE
    if not path.is_file():
        pytest.skip(f"{FILE} is not at hand: set MUBENCH_MODELS to the folder that holds it")
    task, splits = loaded("text", "causal language model")
    model = get_model("smollm2-135m", str(path))
    data = UnlearningData(task, model, {"train": Rows.all_of(splits.train)})
    batch: Batch = data.batch(data.rows("train"), torch.tensor([0]))
    losses = {}
    for name, build in (("pretrained", model.initial), ("random", model.build)):
        network = build(task).eval()
        assert sum(p.numel() for p in network.parameters()) == 134_515_008
        with torch.no_grad():
            losses[name] = task.losses(task.outputs(network, batch), batch).item()
    assert losses["pretrained"] < 5 < 9 < losses["random"]
