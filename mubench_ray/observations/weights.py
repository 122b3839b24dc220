"""The weights of f_U beside those of its retrain, for distances in parameter space."""

from __future__ import annotations

from typing import Any

from mubench_ray.observations.base import Observation, Seen, observation


@observation("weights", title="The weights of f_U and of its retrain")
class Weights(Observation):
    """``state`` and ``retrain_state``: parameters by name; nothing where f_U is another architecture than the retrain (SISA's ensemble)."""

    asked = False
    gives = ("state", "retrain_state")
    needs = ("retrain",)
    costs = "a copy of both networks"

    def observe(self, seen: Seen) -> dict[str, Any]:
        """Both networks' parameters, float32."""
        network, reference = seen.ctx.network, seen.artifact("retrain").load_into(seen.ctx.model.build(seen.ctx.task))
        if network.state_dict().keys() != reference.state_dict().keys():
            return {}
        return {
            name: {key: p.detach().float().cpu().numpy() for key, p in each.named_parameters()}
            for name, each in (("state", network), ("retrain_state", reference))
        }
