"""Per-example evaluation of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from mubench_ray.randomness import derive
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.heartbeat import beat

Observed = dict[str, np.ndarray]


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode for a while; every module gets back the mode it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def evaluate(network: nn.Module, data: UnlearningData, rows: Rows, batch_size: int | None = None) -> Observed:
    """What the task observes of every row (``loss``, ``correct``, ``confidence``, ``entropy``), float64 (N,), with ``label`` and ``index`` (position in the
    data set's own list); in eval mode."""
    parts: list[dict[str, torch.Tensor]] = []
    # What an evaluation draws (the noise of a diffusion model) is the same every time, and leaves the run's own draws alone.
    with eval_mode(network), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive("evaluate", len(rows)))
        for picked in torch.arange(len(rows)).split(batch_size or data.task.evaluation_batch):
            batch = data.batch(rows, picked)
            observed = data.task.observe(data.task.outputs(network, batch), batch)
            parts.append({name: value.double().cpu() for name, value in observed.items()})
            beat()
    columns = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    columns["label"] = rows.examples.labels[rows.positions].numpy()
    columns["index"] = rows.examples.source_index[rows.positions].numpy()
    return columns
