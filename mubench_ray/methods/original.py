"""Original: no unlearning at all, the control that every attack must tell apart."""

from __future__ import annotations

from mubench_ray.methods.base import Context, Method, Phase, method


@method("original", title="Original", cites="control: f_O, trained on everything")
class Original(Method):
    """f_U = f_O: what unlearning starts from."""

    uses_lr = False

    def phases(self, ctx: Context) -> list[Phase]:
        """Nothing is done."""
        return []
