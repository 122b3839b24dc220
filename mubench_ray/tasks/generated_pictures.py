"""Judging pictures that a model drew: a classifier trained on the real ones, and CLIP's opinion of how well they fit their captions."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.files import whole
from mubench_ray.randomness import derive, torch_generator
from mubench_ray.tasks.files import cache_root
from mubench_ray.tasks.small_cnn import SmallCNN
from mubench_ray.trial import digest

#: Passes over the real pictures, their batch, and the rate of Adam, with which the classifier is trained.
EPOCHS, BATCH, RATE = 10, 64, 2e-3
#: Side that the classifier sees pictures at, and its width.
SIDE, WIDTH = 32, 16


def recognised(task: Any, drawn: Tensor) -> Tensor:
    """The class that the task's classifier sees in each picture, int64 (N,)."""
    network = classifier(task)
    with torch.no_grad():
        return torch.cat([network(seen(part)) for part in drawn.cpu().split(256)]).argmax(-1)


def classifier(task: Any) -> nn.Module:
    """A small CNN trained on D's real pictures, D_F's among them: it must know what was to be forgotten. Trained once, kept in the cache; the same
    pictures give the same one."""
    from safetensors.torch import load_file, save_file

    labels = task._train.labels
    identity = digest([task.name, task.texts.sha256, labels.tolist(), task.size, EPOCHS, BATCH, RATE, SIDE, WIDTH])
    path = cache_root() / "classifiers" / f"{task.name}-{identity}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("classifier", task.name))
        network = SmallCNN(3, task.classes, WIDTH)
    if path.is_file():
        network.load_state_dict(load_file(path))
        return network.eval()
    with torch.enable_grad():
        _train(network, task, labels)
    with whole(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, str(partial))
    return network.eval()


def seen(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) as the classifier sees them, in [-1, 1]."""
    pixels = pictures.float() / 127.5 - 1
    return F.interpolate(pixels, size=SIDE, mode="bilinear", antialias=True) if pixels.shape[-1] != SIDE else pixels


def _train(network: nn.Module, task: Any, labels: Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels), generator=torch_generator("classifier", task.name, epoch))
        for rows in order.split(BATCH):
            pictures = seen(task.pictures.take(task._train.columns["picture"][rows]))
            optimizer.zero_grad()
            F.cross_entropy(network(pictures), labels[rows]).backward()
            optimizer.step()


def clip_source() -> str | None:
    """The CLIP model that MUBENCH_CLIP names: a folder, or ``id@revision`` of the hub; None where it names none."""
    return os.environ.get("MUBENCH_CLIP") or None


@functools.lru_cache(maxsize=1)
def _clip(source: str) -> tuple[Any, Any]:
    from transformers import AutoProcessor, CLIPModel

    name, _, revision = source.partition("@")
    if not revision and not os.path.isdir(name):
        raise MubenchError(f"MUBENCH_CLIP = {source!r}: neither a folder nor id@revision of the hub.")
    options = {"revision": revision or None, "trust_remote_code": False}
    try:
        model = CLIPModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32, **options)
        return model.eval(), AutoProcessor.from_pretrained(name, use_fast=False, **options)
    except (OSError, ValueError) as error:
        raise MubenchError(f"MUBENCH_CLIP = {source!r} cannot be loaded: {' '.join(str(error).split())}") from error


@torch.no_grad()
def clip_scores(pictures: Tensor, captions: list[str], source: str) -> Tensor:
    """max(cos(picture, caption), 0) of CLIP's embeddings, (N,), in [0, 1] (Hessel et al. 2021, arXiv 2104.08718, without its factor of 2.5)."""
    model, processor = _clip(source)
    scores = []
    for place in range(0, len(captions), 32):
        images = [image.permute(1, 2, 0).numpy() for image in pictures[place : place + 32].cpu()]
        inputs = processor(
            text=captions[place : place + 32], images=images, return_tensors="pt", padding=True, truncation=True
        )
        found = model(**inputs)
        scores.append(F.cosine_similarity(found.image_embeds, found.text_embeds).clamp(min=0))
    return torch.cat(scores)
