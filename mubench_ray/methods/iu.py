"""IU: influence unlearning, one Newton step away from D_F."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, integer, method, uniform
from mubench_ray.tasks.base import Batch
from mubench_ray.training.data import Rows

#: Memory that the gradients of samples may take at a time.
BLOCK_BYTES = 2 * 2**30


@method(
    "iu",
    "influence_unlearning",
    title="IU",
    cites="Izzo et al. 2021, arXiv 2002.10077; Jia et al. 2023, arXiv 2304.04934",
)
class InfluenceUnlearning(Method):
    """theta += alpha H^-1 v with v = (sum_F grad) / N - |F| / (N |R|) sum_R grad and H = I + mean of g g^T over ``samples`` examples of D_R.

    H is WoodFisher's (Singh & Alistarh 2020), its inverse taken exactly, by Woodbury's identity, from the samples' inner products. At most 2 GiB of their
    gradients are kept at a time: where all of them take more (ResNet-18's 1000: 42 GiB), they come in B blocks, each held against the gradients of all later
    ones, which are taken anew: (B + 1) / 2 times the passes of one block, and one for the sum of all at the end.
    Released code keeps a single vector in their place, which stays parallel to the first sample's gradient: its H^-1 v is v less a multiple of that.
    """

    taxonomy = Taxonomy(corrupts="gradient", retains="gradient")
    version = 3
    uses_lr = False
    without_superloss = "takes no step down a loss, but one by the influence of examples"

    alpha: float = uniform(0.0, 20.0, default=1.0)
    samples: int = integer(1, 1000, default=1000)

    def memory(self, parameters: int) -> int:
        """A block of gradients."""
        return min(4 * parameters * self.samples, max(4 * parameters, BLOCK_BYTES))

    def phases(self, ctx: Context) -> list[Phase]:
        """The two sums of gradients, the samples' inner products block by block, the step."""
        retain = ctx.data.rows("retain")
        picked = torch.randperm(len(retain), generator=ctx.generator("iu"))[: self.samples]
        a_block = max(1, BLOCK_BYTES // (4 * sum(p.numel() for p in ctx.network.parameters() if p.requires_grad)))
        starts = range(0, len(picked), a_block)
        ctx.data.sets["samples"] = Rows(retain.examples, retain.positions[picked])
        ctx.state["places"] = ctx.data.sets["samples"].positions.to(ctx.device)
        phases = [
            Phase("forget gradient", "forget", self.summed, mode="eval", update=self.add_forget, whole=True),
            Phase("retain gradient", "retain", self.summed, mode="eval", update=self.add_retain),
        ]
        several = len(starts) > 1
        for start in starts:
            rows, later = picked[start : start + a_block], picked[start + a_block :]
            ctx.data.sets[f"samples from {start}"] = Rows(retain.examples, retain.positions[rows])
            begin = partial(self.begin, rows=len(rows))
            phases.append(
                Phase("sample", f"samples from {start}", self.summed, batch_size=1, mode="eval", before=begin, update=self.keep,
                      after=partial(self.end, last=not several), whole=several)
            )  # fmt: skip
            if len(later):
                ctx.data.sets[f"samples after {start}"] = Rows(retain.examples, retain.positions[later])
                phases.append(
                    Phase("later sample", f"samples after {start}", self.summed, batch_size=1, mode="eval", update=self.cross, whole=True)
                )  # fmt: skip
        if several:
            phases.append(
                Phase("sum of samples", "samples", self.weighed, mode="eval", before=self.solve, update=self.subtract, after=self.finish_sum, whole=True)
            )  # fmt: skip
        return phases

    def summed(self, ctx: Context, batch: Batch) -> Tensor:
        """CE summed, so that batches of any size add up."""
        return ctx.losses(batch).sum()

    def weighed(self, ctx: Context, samples: Batch) -> Tensor:
        """CE of samples, each by its weight in G^T w."""
        places = (ctx.state["places"] == samples["index"].unsqueeze(1)).int().argmax(1)
        return (ctx.state["weights"][places] * ctx.losses(samples)).sum()

    def add_forget(self, ctx: Context, forget: Batch) -> None:
        """Sum over D_F."""
        self.add(ctx, "forget", len(forget))

    def add_retain(self, ctx: Context, retain: Batch) -> None:
        """Sum over D_R."""
        self.add(ctx, "retain", len(retain))

    def add(self, ctx: Context, name: str, examples: int) -> None:
        """Add a batch's gradient; the budget may stop short of all of D_R."""
        ctx.state[name] = ctx.state.get(name, 0) + self.gradient(ctx)
        ctx.state[f"{name} examples"] = ctx.state.get(f"{name} examples", 0) + examples

    def begin(self, ctx: Context, rows: int) -> None:
        """Room for the gradients of a block."""
        if "v" not in ctx.state:
            forget, retain = len(ctx.data.rows("forget")), len(ctx.data.rows("retain"))
            seen = [ctx.state.pop(f"{name} examples") for name in ("forget", "retain")]
            sums = ctx.state.pop("forget") * (forget / seen[0]), ctx.state.pop("retain")
            ctx.state["v"] = sums[0] / (forget + retain) - forget / ((forget + retain) * seen[1]) * sums[1]
            size = len(ctx.state["places"])
            products = torch.full((size, size), torch.nan, dtype=torch.float64, device=ctx.device)
            ctx.state["products"], ctx.state["with v"] = products, torch.zeros_like(products[0])
        ctx.state["block"] = ctx.state["v"].new_empty(rows, len(ctx.state["v"]))
        ctx.state["rows"] = torch.empty(rows, dtype=torch.long, device=ctx.device)
        ctx.state["kept"] = 0

    def keep(self, ctx: Context, sample: Batch) -> None:
        """Keep one sample's gradient."""
        ctx.state["block"][ctx.state["kept"]] = self.gradient(ctx)
        ctx.state["rows"][ctx.state["kept"]] = self.place(ctx, sample)
        ctx.state["kept"] += 1

    def cross(self, ctx: Context, sample: Batch) -> None:
        """A later sample's inner products with those of the block."""
        rows, found = ctx.state["rows"], (ctx.state["block"] @ self.gradient(ctx)).double()
        place = self.place(ctx, sample).expand(len(rows))
        ctx.state["products"][rows, place] = ctx.state["products"][place, rows] = found

    def place(self, ctx: Context, sample: Batch) -> Tensor:
        """Which of the samples it is."""
        return (ctx.state["places"] == sample["index"]).int().argmax()

    def gradient(self, ctx: Context) -> Tensor:
        """The gradient of everything that is trained as one vector."""
        trained = [p for p in ctx.network.parameters() if p.requires_grad]
        return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained])

    @torch.no_grad()
    def end(self, ctx: Context, last: bool) -> None:
        """The inner products within a block, of as many as the budget left; where there is one block only the step as well."""
        rows, block = ctx.state["rows"][: ctx.state["kept"]], ctx.state["block"][: ctx.state["kept"]]
        ctx.state["rows"], ctx.state["block"] = rows, block
        ctx.state["products"][rows.unsqueeze(1), rows] = (block @ block.T).double()
        ctx.state["with v"][rows] = (block @ ctx.state["v"]).double()
        if last:
            ctx.state["v"] = self.by_block(ctx)
            self.step(ctx)

    def weights(self, ctx: Context, used: Tensor) -> Tensor:
        """w = (G G^T + S I)^-1 G v of the samples ``used``, 0 for the others."""
        products, size = ctx.state["products"], len(used)
        eye = torch.eye(size, dtype=torch.float64, device=ctx.device)
        solved = torch.linalg.solve(products[used.unsqueeze(1), used] + size * eye, ctx.state["with v"][used])
        found = ctx.state["v"].new_zeros(len(products))
        found[used] = solved.to(found)
        return found

    def by_block(self, ctx: Context) -> Tensor:
        """V less G^T w of the last block's samples alone."""
        rows = ctx.state["rows"]
        return ctx.state["v"] - ctx.state["block"].T @ self.weights(ctx, rows)[rows]

    @torch.no_grad()
    def solve(self, ctx: Context) -> None:
        """The samples' weights; and what the last block alone would say, for where the budget does not leave the others' inner products, or all of the pass
        that takes G^T w off v: a part of either is no inverse."""
        ctx.state["by block"], size = self.by_block(ctx), len(ctx.state["places"])
        whole = not ctx.state["products"].isnan().any()
        everything = torch.arange(size, device=ctx.device)
        ctx.state["weights"] = self.weights(ctx, everything) if whole else ctx.state["v"].new_zeros(size)
        ctx.state["left"] = size if whole else math.inf

    def subtract(self, ctx: Context, samples: Batch) -> None:
        """Take a batch's part of G^T w off v."""
        ctx.state["v"] -= self.gradient(ctx)
        ctx.state["left"] -= len(samples)

    def finish_sum(self, ctx: Context) -> None:
        """The step, by all samples where all were taken off."""
        if ctx.state["left"] > 0:
            ctx.state["v"] = ctx.state["by block"]
        self.step(ctx)

    @torch.no_grad()
    def step(self, ctx: Context) -> None:
        """Theta += alpha H^-1 v."""
        trained = [p for p in ctx.network.parameters() if p.requires_grad]
        for parameter, change in zip(trained, ctx.state["v"].split([p.numel() for p in trained])):
            parameter.add_(self.alpha * change.view_as(parameter))
        ctx.state.clear()
