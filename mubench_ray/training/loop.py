"""The one training loop: runs phases step by step, under a budget, without a method knowing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mubench_ray.errors import Diverged
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Batch
from mubench_ray.training.context import Context
from mubench_ray.training.meter import BudgetSpent
from mubench_ray.training.optimizers import build_optimizer, scheduled
from mubench_ray.training.phase import Phase
from mubench_ray.trial import Training, Unlearning

#: On an accelerator the loss is looked at only this often, so that steps stay asynchronous.
FINITE_CHECK_EVERY = 16


class Loop:
    """Runs phases on a context. ``observer(ctx)`` is called before the first and after every step;
    it pauses the meter for what it does."""

    def __init__(
        self,
        ctx: Context,
        phases: list[Phase],
        options: Training | Unlearning,
        observer: Callable[[Context], None] | None = None,
    ) -> None:
        self.ctx, self.phases, self.options = ctx, phases, options
        self.observer = observer or (lambda ctx: None)
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        self._taken: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        for phase in phases:
            if phase.update is None:
                self._totals[phase.optimizer.name] = self._totals.get(phase.optimizer.name, 0) + self._steps(phase)

    def run(self) -> bool:
        """Run all phases; returns True when the budget ended them early. Raises Diverged on a loss that is not finite."""
        meter = self.ctx.meter
        self.observer(self.ctx)
        meter.start()
        try:
            return not all(self._run_phase(number, phase) for number, phase in enumerate(self.phases))
        finally:
            meter.stop()

    def _run_phase(self, number: int, phase: Phase) -> bool:
        """Whether the phase ran to its end."""
        ctx, meter = self.ctx, self.ctx.meter
        if not self._hook(phase.before):
            return False
        frozen = self._freeze(phase)
        finite = torch.ones((), dtype=torch.bool, device=ctx.device)
        steps = self._steps(phase)
        try:
            for step, (epoch, batches) in zip(range(steps), self._batches(number, phase)):
                size = sum(len(batch) for batch in batches)
                ctx.epoch = (number, epoch)
                self._seed(number, step)
                # What a first step costs is known only after it; if that was too much, it is undone.
                before = (
                    None if not meter.capped or meter.knows(phase.name) else copy.deepcopy(ctx.network.state_dict())
                )
                try:
                    loss = meter.charge(phase.name, size, lambda batches=batches: self._step(phase, batches))
                except BudgetSpent:
                    if before is not None:
                        ctx.network.load_state_dict(before)
                    return False
                finite &= torch.isfinite(loss)
                last = step == steps - 1
                if (ctx.device == "cpu" or last or step % FINITE_CHECK_EVERY == 0) and not finite:
                    raise Diverged(
                        f"the loss became {float(loss)} at step {step + 1} of {steps} in phase {phase.name!r}"
                    )
                self.observer(ctx)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            ctx.network.zero_grad(set_to_none=True)
        return self._hook(phase.after)

    def _hook(self, hook: Callable[[Context], None] | None) -> bool:
        """Whether a phase's ``before`` or ``after`` stayed within the budget."""
        if hook is None:
            return True
        try:
            hook(self.ctx)
        except BudgetSpent:
            return False
        return True

    def _step(self, phase: Phase, batches: tuple[Batch, ...]) -> Tensor:
        ctx = self.ctx
        ctx.network.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(ctx.device).type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            loss = phase.loss(ctx, *batches)
        loss.backward()
        if phase.update is not None:
            phase.update(ctx, *batches)
        else:
            self._descend(phase)
        for batch in batches:
            batch.cache.clear()
        return loss.detach()

    def _descend(self, phase: Phase) -> None:
        """One optimiser step: L2 decay and clipping enter the gradient, then the mask, so that masked weights are never moved."""
        ctx, spec = self.ctx, phase.optimizer
        named = [(name, p) for name, p in ctx.network.named_parameters() if p.grad is not None]
        parameters = [p for _, p in named]
        optimizer = self._optimizers.get(spec.name)
        lr = spec.lr or ctx.lr
        if optimizer is None:
            everything = list(ctx.network.parameters())
            optimizer = self._optimizers[spec.name] = build_optimizer(spec, self.options, lr, everything)
        taken = self._taken.get(spec.name, 0)
        schedule = spec.schedule if getattr(self.options, "schedule", "method") == "method" else self.options.schedule
        rate = scheduled(schedule, taken, self._totals[spec.name], lr, spec.floor)
        for group in optimizer.param_groups:
            group["lr"] = rate
        decay = self.options.weight_decay if spec.weight_decay is None else spec.weight_decay
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)
        if decay:
            if (spec.kind or self.options.optimizer) == "adamw":
                with torch.no_grad():
                    for name, p in named:
                        p.mul_(1 - rate * decay * (ctx.mask[name] if ctx.mask else 1))
            else:
                torch._foreach_add_([p.grad for p in parameters], [p.detach() for p in parameters], alpha=decay)
        if ctx.mask:
            for name, p in named:
                p.grad.mul_(ctx.mask[name])
        before = {name: p.detach().clone() for name, p in named if name in ctx.damping} if ctx.damping else {}
        optimizer.step()
        with torch.no_grad():
            for name, p in named:
                if name in before:
                    p.copy_(torch.lerp(before[name], p, ctx.damping[name]))
        self._taken[spec.name] = taken + 1

    def _steps(self, phase: Phase) -> int:
        name = phase.driver if phase.on == "paired" else phase.on
        return self.ctx.data.steps(name, self._size(phase), phase.epochs)

    def _size(self, phase: Phase) -> int:
        return phase.batch_size or self.options.batch_size

    def _batches(self, number: int, phase: Phase) -> Iterator[tuple[int, tuple[Batch, ...]]]:
        """(epoch, batches) without end."""
        data, size = self.ctx.data, self._size(phase)
        stream = ("batches", self.ctx.seed, number)
        name = phase.driver if phase.on == "paired" else phase.on
        an_epoch = data.steps(name, size, 1)
        names = ("retain", "forget") if phase.on == "paired" else (phase.on,)
        streams = zip(*(data.passes(name, size, stream, phase.augment) for name in names))
        for step, batches in enumerate(streams):
            yield step // an_epoch, batches

    def _seed(self, number: int, step: int) -> None:
        """Seed dropout for this step alone, so that a run continued elsewhere goes on with the same draws."""
        seed = derive("step", self.ctx.seed, number, step)
        torch.default_generator.manual_seed(seed)
        if self.ctx.device.startswith("cuda"):
            torch.cuda.manual_seed(seed)

    def _freeze(self, phase: Phase) -> list:
        """Set the mode of every module and freeze what the phase does not train; returns the parameters frozen here."""
        network = self.ctx.network
        network.train(phase.mode == "train")
        known = dict(network.named_parameters())
        trained = set(known) if phase.parameters is None else set(phase.parameters(self.ctx))
        if unknown := trained - set(known):
            raise ValueError(f"phase {phase.name!r} trains parameters the network has not: {sorted(unknown)[:3]}")
        frozen = [p for name, p in known.items() if name not in trained and p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module in network.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()
        return frozen
