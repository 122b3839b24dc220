"""Pictures as methods alter them: batches with other pixels, where pixels may lie, and which way they raise a loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mubench_ray.tasks.base import Batch, ImageClassification, Task
from mubench_ray.training.context import Context


def no_pixels(task: type[Task]) -> str | None:
    """Why a task has no pixels to alter and labels to go with them, or None."""
    if issubclass(task, ImageClassification):
        return None
    return f"it alters the pixels of labelled pictures, and {task.name} is {task.modality} {task.kind}"


def pixels(batch: Batch) -> Tensor:
    """The pictures of a batch as the network reads them, normalised, (B, C, H, W)."""
    (read,) = batch.inputs.values()
    return read


def with_pixels(batch: Batch, read: Tensor, **columns: Tensor) -> Batch:
    """The batch with other pictures, as the network reads them, and other columns."""
    (name,) = batch.inputs
    return replace(batch, columns={**batch.columns, **columns}, inputs={name: read}, cache={})


def span(ctx: Context) -> tuple[Tensor, Tensor]:
    """Black and white as the network reads them, (1, C, H, W) each: a pixel p in [0, 1] is black + p (white - black)."""
    blank = {name: column.to(ctx.device) for name, column in ctx.task.blank(1).items()}
    black, white = (
        ctx.model.encode(ctx.task, {**blank, "image": torch.full_like(blank["image"], value)}) for value in (0, 255)
    )
    return next(iter(black.values())), next(iter(white.values()))


def ascent(ctx: Context, network: nn.Module, batch: Batch, read: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of each example's task loss at the pictures ``read``, log-probabilities there) of a network in eval mode that stays as it is."""
    moved = with_pixels(batch, read.detach())
    rows = ctx.world.rows(len(batch))
    if rows is None:
        return own_ascent(ctx, network, moved)
    with ctx.world.split(moved, rows) as own:
        found = own_ascent(ctx, network, own)
    return ctx.world.gather(found, rows, len(batch))


def own_ascent(ctx: Context, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """``ascent`` at the batch's own pictures by this process alone, of several too."""
    read = pixels(batch).clone().requires_grad_()
    with torch.enable_grad():
        moved = with_pixels(batch, read)
        outputs = ctx.task.outputs(network, moved)
        ctx.task.losses(outputs, moved).sum().backward(inputs=[read])
    assert read.grad is not None
    return read.grad, ctx.task.log_probs(outputs.detach(), moved)


def picked(batch: Batch, order: Tensor) -> Batch:
    """The rows of a batch that ``order`` names, as often as it names them."""
    columns, inputs = ({name: column[order] for name, column in part.items()} for part in (batch.columns, batch.inputs))
    return replace(batch, columns=columns, inputs=inputs, forget=batch.forget[order], cache={})


def joined(batch: Batch, kept: Tensor, read: Tensor, labels: Tensor, sources: Tensor) -> Batch:
    """The rows of a batch that are ``kept`` (B,), followed by made pictures as the network reads them, (M, C, H, W), with their labels (M,), each made
    of the row of the batch that ``sources`` (M,) names."""
    rows = picked(batch, torch.cat([kept.nonzero().flatten(), sources]))
    return with_pixels(rows, torch.cat([pixels(batch)[kept], read]), labels=torch.cat([batch["labels"][kept], labels]))
