"""Bad-T: an incompetent teacher for what is forgotten, the original for what is kept."""

from __future__ import annotations

from torch import Tensor

from mubench_ray.methods.base import Context, Method, Taxonomy, kl, log_uniform, method, uniform
from mubench_ray.tasks.base import Batch


@method("bad_t", "bad-t", "badteacher", "bt", title="Bad-T", cites="Chundawat et al. 2023, arXiv 2205.08096")
class BadTeacher(Method):
    """KL to a randomly initialised teacher of the same architecture on D_F, KL to f_O on an equal-size sample of D_R.

    Upstream computes both terms as one batch with the share of D_F rows as weight; paired batches of equal size give the same
    weights, one half each.
    """

    taxonomy = Taxonomy(corrupts="model", retains="logits", measured_by="f_O")
    on = "paired"
    driver = "forget"

    epochs: float = uniform(1, 10, default=10)
    temperature: float = log_uniform(0.1, 5.0, default=1.0)

    def loss(self, ctx: Context, retain: Batch, forget: Batch) -> Tensor:
        """Mean of KL(incompetent || f_U) on D_F and KL(f_O || f_U) on D_R."""
        T = self.temperature
        corrupt = kl(ctx.log_probs(forget, ctx.incompetent, T), ctx.log_probs(forget, temperature=T))
        keep = kl(ctx.log_probs(retain, ctx.original, T), ctx.log_probs(retain, temperature=T))
        return (corrupt + keep) / 2
