"""NatMU: pictures of D_R are injected into the forgotten ones, and their labels go with them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mubench_ray.methods.base import Context, LearningRate, Method, Optimizer, Phase, Taxonomy, method, uniform
from mubench_ray.methods.pixels import joined, no_pixels, pixels
from mubench_ray.tasks.base import Batch, Task
from mubench_ray.training.data import Rows

#: Directions that a picture is injected from: hybrids of every D_F example.
HYBRIDS = 4


@method("natmu", title="NatMU", cites="He et al. 2024, arXiv 2405.15495")
class NaturalUnlearning(Method):
    """CE on D_R u {(m_j x + (1 - m_j) x_j, y_j), j = 1..4} for every x of D_F; x_j of D_R, its class the j-th that f_O gives x beside y.

    m_j runs linearly between the picture's middle and its edges, along its rows or columns, moved by ``delta`` and cut to [0, 1]: the larger, the more of x
    stays. Released: delta -.19 (CIFAR-10), -.03 (CIFAR-100), .045 (TinyImageNet), 5 epochs, cosine, AdamW at .001 and decay .002. Released code
    draws every x_j once; here a class whose pictures are used up starts anew. D_R is taken as it is, and the hybrids of an example come in one batch.
    """

    taxonomy = Taxonomy(corrupts="data", retains="task loss", measured_by="f_O")
    learning_rates = {
        "adam": LearningRate(
            1e-3,
            1e-5,
            0.01,
            "its released scripts, AdamW at 3e-4 to 1.1e-3 (arXiv 2405.15495), and a decade or two around",
        ),
        "sgd": LearningRate(
            0.1, 1e-3, 1.0, "its released code's default, SGD at .1 (arXiv 2405.15495), and a decade or two around"
        ),
    }

    epochs: float = uniform(1, 10, default=5)
    delta: float = uniform(-0.5, 0.5, default=-0.19)

    @classmethod
    def refusal(cls, task: type[Task]) -> str | None:
        """It needs pixels to mix."""
        return no_pixels(task)

    def phases(self, ctx: Context) -> list[Phase]:
        """The partners, then one phase."""
        cosine = Optimizer(schedule="cosine")
        return [
            Phase(
                "replace",
                "mixed",
                self.hybrids,
                epochs=self.epochs,
                optimizer=cosine,
                before=self.pair,
                forget_rows=HYBRIDS,
            )
        ]

    def pair(self, ctx: Context) -> None:
        """The D_R pictures of every D_F example, places in D_R (|D_F|, HYBRIDS), and where each example's lie."""
        rows, retain = ctx.data.rows("forget"), ctx.data.rows("retain")
        labels = retain.examples.labels[retain.positions]
        generator = ctx.generator("partners")
        members = {c: (labels == c).nonzero().flatten() for c in labels.unique().tolist()}
        members = {c: place[torch.randperm(len(place), generator=generator)].tolist() for c, place in members.items()}
        used = dict.fromkeys(members, 0)
        partners = torch.zeros(len(rows), HYBRIDS, dtype=torch.long)
        for example, classes in enumerate(self.classes(ctx, rows, list(members))):
            for hybrid in range(HYBRIDS):
                c = classes[hybrid % len(classes)]
                partners[example, hybrid] = members[c][used[c] % len(members[c])]
                used[c] += 1
        place = torch.zeros(len(rows.examples), dtype=torch.long)
        place[rows.positions] = torch.arange(len(rows))
        ctx.state |= {"partners": partners.to(ctx.device), "place": place.to(ctx.device)}

    def classes(self, ctx: Context, rows: Rows, kept: list[int]) -> list[list[int]]:
        """Of every D_F example the first classes, of those that D_R has, that f_O gives it beside its own."""
        found: list[list[int]] = []
        for picked in torch.arange(len(rows)).split(ctx.task.evaluation_batch):
            batch = ctx.data.batch(rows, picked)
            log_probs = ctx.meter.charge("classes", len(batch), partial(ctx.log_probs, batch, ctx.original))
            for label, order in zip(batch["labels"].tolist(), log_probs.argsort(1, descending=True).tolist()):
                found.append([c for c in order if c != label and c in kept][:HYBRIDS] or [label])
        return found

    def hybrids(self, ctx: Context, batch: Batch) -> Tensor:
        """CE on the batch with every D_F row replaced by its hybrids."""
        sources = batch.forget.nonzero().flatten().repeat_interleave(HYBRIDS)
        if not len(sources):
            return ctx.loss(batch)
        places = ctx.state["partners"][ctx.state["place"][batch["index"][batch.forget]]].flatten()
        partners = ctx.data.batch(ctx.data.rows("retain"), places.cpu())
        own, other = pixels(batch)[sources], pixels(partners)
        mask = masks(own.shape[-2], own.shape[-1], self.delta).to(own).repeat(len(sources) // HYBRIDS, 1, 1)[:, None]
        return ctx.loss(joined(batch, ~batch.forget, mask * own + (1 - mask) * other, partners["labels"], sources))


def masks(height: int, width: int, delta: float) -> Tensor:
    """The share that every pixel of the forgotten picture keeps, (HYBRIDS, height, width): most in the middle row or column, then most at the edges."""

    def ramp(length: int) -> Tensor:
        half = length // 2
        rise = torch.arange(half) / half
        return torch.cat([rise, rise.new_ones(length % 2), rise.flip(0)])

    rows, columns = ramp(height)[:, None].expand(height, width), ramp(width)[None].expand(height, width)
    return (torch.stack([rows, columns, rows.max() - rows, columns.max() - columns]) + delta).clamp(0, 1)
