"""FF: Fisher forgetting, noise on every weight that D_R does not need."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mubench_ray.methods.base import Context, Method, Phase, Taxonomy, choice, log_uniform, method
from mubench_ray.methods.layers import head, layer_state, no_head, normal
from mubench_ray.tasks.base import Batch

#: Largest 1 / F, so that a weight without any curvature gets finite noise.
LARGEST_INVERSE = 1e3
#: How much larger the variance is on the head.
HEAD_FACTOR = 10.0
#: Labels whose gradients are taken in one vectorised backward pass.
LABELS_AT_A_TIME = 16


@method(
    "ff", "fisher", "fisher_forgetting", title="FF", cites="Golatkar et al. 2020, arXiv 1911.04933; as in Deep Unlearn"
)
class FisherForgetting(Method):
    """theta += N(0, alpha min(1 / F, 1000)), ten times the variance on the head; F = diagonal Fisher information of D_R at f_O.

    F = mean over D_R (as much of it as the budget reaches) of sum_y p(y | x) (grad log p(y | x))^2, exact over all classes, one example at a time; where
    the targets are sequences one y is drawn for every token instead. The range [0, 1] of the released search for alpha made all runs fail: the useful ones
    are powers of ten below.

    Released code departs from the paper, one option each: ten times the variance on every other vector, too (``vector_factor`` 10), 1 / F of the head at most
    100 (``head_clamp``), the variance averaged over dimension 1 of a tensor (``rows`` mean), and the squares of whole batches' mean gradients, which are no
    Fisher information (``squared`` batches).
    """

    taxonomy = Taxonomy(corrupts="model")
    version = 2
    uses_lr = False
    without_superloss = "takes no step down a loss: it adds noise by the Fisher information"

    alpha: float = log_uniform(1e-10, 1.0, default=1e-6)
    vector_factor: float = choice(1.0, 10.0, default=1.0, searched=False)
    head_clamp: float = choice(1e3, 1e2, default=1e3, searched=False)
    rows: str = choice("each", "mean", default="each", searched=False)
    squared: str = choice("examples", "batches", default="examples", searched=False, later=True)

    @classmethod
    def refusal_for_network(cls, network: nn.Module) -> str | None:
        """It needs a head."""
        reason = no_head(network)
        return f"ff treats the head apart; {reason}" if reason else None

    def phases(self, ctx: Context) -> list[Phase]:
        """The Fisher information, then the noise."""
        fisher = self.expected if ctx.task.kind == "classification" else self.drawn
        update = self.nothing if ctx.task.kind == "classification" else self.square
        size = 1 if self.squared == "examples" else None
        return [Phase("fisher", "retain", fisher, batch_size=size, mode="eval", update=update, after=self.scrub)]

    def expected(self, ctx: Context, retain: Batch) -> Tensor:
        """Add sum_y p(y | x) (grad log p(y | x))^2 of one example, or of a batch's means; the loop has no gradient of its own to take."""
        self.count(ctx)
        log_probs = ctx.log_probs(retain)
        roots = torch.diag(log_probs.detach().exp().mean(0).sqrt())
        log_probs = log_probs.mean(0)
        if any(is_parametrized(module) for module in ctx.network.modules()):
            self.one_by_one(ctx, retain, log_probs, roots)
        else:
            self.vectorised(ctx, log_probs, roots)
        return torch.zeros((), device=ctx.device, requires_grad=True)

    def vectorised(self, ctx: Context, log_probs: Tensor, roots: Tensor) -> None:
        """All labels in a few backward passes."""
        names, parameters = zip(*((name, p) for name, p in ctx.network.named_parameters() if p.requires_grad))
        for rows in roots.split(LABELS_AT_A_TIME):
            gradients = torch.autograd.grad(
                log_probs, parameters, rows, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for name, gradient in zip(names, gradients):
                if gradient is not None:
                    self.add(ctx, name, gradient.square().sum(0))

    def one_by_one(self, ctx: Context, retain: Batch, log_probs: Tensor, roots: Tensor) -> None:
        """A backward pass a label: torch's FLOs counter allows no other where a weight is computed (weight normalisation)."""
        for row in roots:
            log_probs.backward(row, retain_graph=True)
            self.square(ctx, retain)
            ctx.network.zero_grad(set_to_none=True)

    def nothing(self, ctx: Context, retain: Batch) -> None:
        """``expected`` has added everything."""

    def drawn(self, ctx: Context, retain: Batch) -> Tensor:
        """-log p of targets drawn from f_O itself."""
        self.count(ctx)
        log_probs = ctx.log_probs(retain).flatten(0, -2)
        generator = ctx.generator("ff", int(retain["index"][0]))
        picked = torch.multinomial(log_probs.detach().exp().cpu(), 1, generator=generator).to(log_probs.device)
        return -log_probs.gather(-1, picked).sum()

    def count(self, ctx: Context) -> None:
        """One more example, or batch; the budget may stop short of all of D_R."""
        ctx.state["examples"] = ctx.state.get("examples", 0) + 1

    def square(self, ctx: Context, retain: Batch) -> None:
        """Add the squared gradient of one example."""
        for name, parameter in ctx.network.named_parameters():
            if parameter.grad is not None:
                self.add(ctx, name, parameter.grad.square())

    def add(self, ctx: Context, name: str, squared: Tensor) -> None:
        """Add to the sum over D_R."""
        total = ctx.state.setdefault("fisher", {})
        total[name] = total.get(name, 0) + squared

    @torch.no_grad()
    def scrub(self, ctx: Context) -> None:
        """Add the noise."""
        fisher, size = ctx.state.pop("fisher"), ctx.state.pop("examples")
        last = set(layer_state(ctx.network, head(ctx.network)))
        for name, parameter in ctx.network.named_parameters():
            if name in fisher:
                inverse = (size / fisher[name]).clamp(max=self.head_clamp if name in last else LARGEST_INVERSE)
                if self.rows == "mean" and inverse.dim() > 1:
                    inverse = inverse.mean(1, keepdim=True).expand_as(inverse)
                factor = HEAD_FACTOR if name in last else self.vector_factor if inverse.dim() == 1 else 1.0
                variance = self.alpha * inverse * factor
                parameter.add_(variance.sqrt() * normal(parameter, 1.0, ctx.generator("ff", name)))
