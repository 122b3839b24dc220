"""The one training loop: runs phases step by step, under a budget, without a method knowing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Batch
from mubench_ray.training.checkpoint import Checkpoint, Stateful
from mubench_ray.training.context import Context
from mubench_ray.training.fitting import Cost, Fitted, fit
from mubench_ray.training.meter import BudgetSpent, Meter, OutOfTime
from mubench_ray.training.optimizers import build_optimizer, scheduled
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.training.precision import tensor_float
from mubench_ray.trial import Training, Unlearning

#: On an accelerator the loss is looked at only this often, so that steps stay asynchronous.
FINITE_CHECK_EVERY = 16


class Loop:
    """Runs phases on a context, and ``finish`` at the end, also where the budget cuts them short. Under a budget all are fitted into it first, so that
    what comes last is paid for (``training/fitting.py``). ``observer(ctx)`` is called before the first and after every step;
    it pauses the meter for what it does. With a ``checkpoint`` the run is saved now and then between two steps, by rank 0 of several processes, and goes on
    from there if there is one already: as if undisturbed, with what was spent on the meter. What the observer has seen so far is saved if it has a
    ``state_dict``."""

    def __init__(
        self,
        ctx: Context,
        phases: list[Phase],
        options: Training | Unlearning,
        observer: Callable[[Context], None] | None = None,
        checkpoint: Checkpoint | None = None,
        finish: Callable[[Context], None] | None = None,
    ) -> None:
        self.ctx, self.phases, self.options, self.finish = ctx, phases, options, finish
        self.observer = observer or (lambda ctx: None)
        self.checkpoint = checkpoint
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        self._taken: dict[str, int] = {}
        #: Steps of each phase and, below, of all that share an optimiser.
        self._fitted = fit([Cost(0.0, [0.0] * len(self._examples(phase)), 0.0) for phase in phases], 0.0, None)
        self._totals: dict[str, int] = {}
        self._late = False

    def run(self) -> bool:
        """Run all phases and the finish; returns True when the budget shortened or ended them. Raises Diverged on a loss that is not finite."""
        meter = self.ctx.meter
        # In pieces a network cannot be copied to try things on; it knows neither hooks nor a finish.
        tried = self._try_all() if self.phases and meter.capped and not self.ctx.world.sharded else None
        position = self._restore()
        if tried and position is None:  # with what was spent before
            self._fitted = fit(*tried, None if meter.cap_flos is None else meter.most_flos - meter.flos)
        for phase, steps in zip(self.phases, self._fitted.steps):
            if phase.update is None:
                self._totals[phase.optimizer.name] = self._totals.get(phase.optimizer.name, 0) + steps
        if position is None:
            self.observer(self.ctx)
        self.ctx.stepped = position is not None  # one is saved after a step
        first, done = position or (0, None)
        meter.reserved = self._fitted.finish
        meter.start()
        try:
            complete = all(
                self._run_phase(number, phase, done if number == first else None)
                for number, phase in enumerate(self.phases)
                if number >= first
            )
            meter.share, meter.reserved = 1.0, 0.0
            self.ctx.world.check_equal(self.ctx.network, "after the last step")
            complete = self._hook(self.finish, "at the method's end") and complete
            return not (complete and self._fitted.complete and not self._late)
        finally:
            meter.stop()

    def _try_all(self) -> tuple[list[Cost], float]:
        """What every phase costs and the finish, found by a step of each on a copy of everything, off the clock; the meter then knows each kind of work."""
        meter, cuda = Meter(world=self.ctx.world), [self.ctx.device] if self.ctx.device.startswith("cuda") else []
        hooks: dict[tuple, tuple[float, float]] = {}
        with torch.random.fork_rng(cuda):
            rehearsal = Loop(self.ctx.to_try_on(meter), self.phases, self.options)
            for number, phase in enumerate(self.phases):
                key = (phase.name, phase.before, phase.after)
                if key not in hooks:
                    hooks[key] = rehearsal._try(number, phase)
            spent = meter.flos
            if self.finish:
                self.finish(rehearsal.ctx)
        self.ctx.meter.learn(meter)
        costs = [
            Cost(before, [meter.of(phase.kind_of(n)) * size for n, size in enumerate(sizes)], after, phase.whole)
            for phase in self.phases
            for sizes in [self._examples(phase)]
            for before, after in [hooks[phase.name, phase.before, phase.after]]
        ]
        return costs, meter.flos - spent

    def _try(self, number: int, phase: Phase) -> tuple[float, float]:
        """Take the first step of a phase, of each kind of them, without its optimiser's; FLOs of its ``before`` and its ``after``."""
        ctx, start = self.ctx, self.ctx.meter.flos
        if phase.before:
            phase.before(ctx)
        before, frozen = ctx.meter.flos - start, self._freeze(phase)
        steps = range(self._fitted.steps[number])
        kinds = {phase.kind_of(step): step for step in reversed(steps if phase.kind else steps[:1])}  # first of each
        for step, (epoch, batches) in zip(range(max(kinds.values(), default=-1) + 1), self._batches(number, phase, 0)):
            if kinds[phase.kind_of(step)] != step:
                continue
            ctx.epoch = (number, epoch)
            self._seed(number, step)
            work = partial(self._up_to_the_optimizer, phase, batches)
            try:
                ctx.meter.charge(phase.kind_of(step), work_of(phase, batches), work)
            except ValueError as error:
                self._say_if_alone(phase, batches, error)
                raise
        for parameter in frozen:
            parameter.requires_grad_(True)
        ctx.network.zero_grad(set_to_none=True)
        start = ctx.meter.flos
        if phase.after:
            phase.after(ctx)
        return before, ctx.meter.flos - start

    def _run_phase(self, number: int, phase: Phase, done: int | None = None) -> bool:
        """Whether what comes after the phase may follow; ``done`` steps of it, and what comes before them, are behind us."""
        ctx, meter = self.ctx, self.ctx.meter
        steps, whole = self._fitted.steps[number], len(self._examples(phase))
        ctx.share = steps / whole if whole else 1.0
        if done is None and not self._hook(phase.before):
            return False
        meter.share = self._fitted.steps_by[number]
        frozen = self._freeze(phase)
        finite = torch.ones((), dtype=torch.bool, device=ctx.device)
        try:
            for step, (epoch, batches) in zip(range(done or 0, steps), self._batches(number, phase, done or 0)):
                kind, size = phase.kind_of(step), work_of(phase, batches)
                ctx.epoch = (number, epoch)
                self._seed(number, step)
                # What a first step costs is known only after it; if that was too much, it is undone.
                before = None if not meter.capped or meter.knows(kind) else copy.deepcopy(ctx.network.state_dict())
                try:
                    loss = meter.charge(kind, size, lambda batches=batches: self._step(phase, batches))
                except BudgetSpent as spent:
                    if before is not None:
                        ctx.network.load_state_dict(before)
                    if not isinstance(spent, OutOfTime):
                        return False
                    self._late = True
                    break
                except ValueError as error:
                    self._say_if_alone(phase, batches, error)
                    raise
                ctx.stepped = True
                finite &= torch.isfinite(loss)
                last = step == steps - 1
                if (ctx.device == "cpu" or last or step % FINITE_CHECK_EVERY == 0) and not finite:
                    raise Diverged(
                        f"the loss became {float(loss)} at step {step + 1} of {steps} in phase {phase.name!r}"
                    )
                self.observer(ctx)
                if self.checkpoint is not None and self.checkpoint.due and ctx.world.rank == 0:
                    with meter.paused():
                        self.checkpoint.save(self._state((number, step + 1)))
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            ctx.network.zero_grad(set_to_none=True)
        return self._hook(phase.after)

    def _say_if_alone(self, phase: Phase, batches: tuple[Batch, ...], error: ValueError) -> None:
        """Raise MubenchError where a step failed on a batch of one example, which is left only where a set or a batch is of one by intent: torch does not
        say that."""
        for name, batch in zip(phase.sets, batches):
            if len(batch) == 1 and phase.mode == "train":
                size = self._size(phase)
                whole = "the set holds no more" if size > 1 else f"batch_size is {size}"
                raise MubenchError(
                    f"phase {phase.name!r} trains on one example of {name!r} at a time ({whole}), which this network cannot: {error}. BatchNorm has no "
                    "statistics of one example where its map is 1 x 1: take a larger ratio, subset or batch_size, or a model without BatchNorm."
                ) from error

    def _hook(
        self, hook: Callable[[Context], None] | None, when: str = "after a method's change of the weights"
    ) -> bool:
        """Whether a phase's ``before`` or ``after``, or the finish, stayed within the budget. It may take all seconds that are left: it cannot be shortened,
        as a phase can."""
        if hook is None:
            return True
        self.ctx.meter.share = 1.0
        try:
            hook(self.ctx)
        except BudgetSpent:
            return False
        self.ctx.world.check_equal(self.ctx.network, when)
        return True

    def _step(self, phase: Phase, batches: tuple[Batch, ...]) -> Tensor:
        loss = self._up_to_the_optimizer(phase, batches)
        if phase.update is None:
            self._descend(phase)
        return loss

    def _up_to_the_optimizer(self, phase: Phase, batches: tuple[Batch, ...]) -> Tensor:
        """Forward, backward, and what takes the optimiser's place."""
        ctx = self.ctx
        ctx.network.zero_grad(set_to_none=True)
        with tensor_float(self.options.compute):
            with torch.autocast(torch.device(ctx.device).type, torch.bfloat16, enabled=self.options.compute == "bf16"):
                splits = ctx.world.splits
                loss = phase.loss(ctx, *batches)
            loss.backward()
        if ctx.world.splits > splits:
            ctx.world.average_gradients(ctx.network)
        if phase.update is not None:
            phase.update(ctx, *batches)
        for batch in batches:
            batch.cache.clear()
        return loss.detach()

    def _descend(self, phase: Phase) -> None:
        """One optimiser step: L2 decay and clipping enter the gradient, then the mask, so that masked weights are never moved."""
        ctx, spec = self.ctx, phase.optimizer
        named = [(name, p, p.grad) for name, p in ctx.network.named_parameters() if p.grad is not None]
        parameters = [p for _, p, _ in named]
        damping = ctx.damping or {}
        lr = spec.lr or ctx.learning_rate
        optimizer = self._optimizer(spec)
        taken = self._taken.get(spec.name, 0)
        schedule = spec.schedule if getattr(self.options, "schedule", "method") == "method" else self.options.schedule
        an_epoch = self._steps(phase, 1) if spec.per_epoch else 1
        rate = scheduled(schedule, taken // an_epoch, self._totals[spec.name] / an_epoch, lr, spec.floor)
        for group in optimizer.param_groups:
            group["lr"] = rate
        decay = self.options.weight_decay if spec.weight_decay is None else spec.weight_decay
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)
        if decay:
            if (spec.kind or self.options.optimizer) == "adamw":
                with torch.no_grad():
                    for name, p, _ in named:
                        p.mul_(1 - rate * decay * (ctx.mask[name] if ctx.mask else 1))
            else:
                # The gradient alone is damped: where a step is, decay is taken over the share that is left of it.
                decayed = [p.detach() / damping[name] if name in damping else p.detach() for name, p, _ in named]
                # torch has no public name for it.
                torch._foreach_add_([grad for *_, grad in named], decayed, alpha=decay)  # pyright: ignore[reportPrivateImportUsage]
        if ctx.mask:
            for name, _, grad in named:
                grad.mul_(ctx.mask[name])
        before = {name: p.detach().clone() for name, p, _ in named if name in damping} if damping else {}
        optimizer.step()
        with torch.no_grad():
            for name, p, _ in named:
                if name in before:
                    p.copy_(torch.lerp(before[name], p, damping[name]))
        self._taken[spec.name] = taken + 1

    def _optimizer(self, spec: Optimizer) -> torch.optim.Optimizer:
        if spec.name not in self._optimizers:
            everything = list(self.ctx.network.parameters())
            self._optimizers[spec.name] = build_optimizer(
                spec, self.options, spec.lr or self.ctx.learning_rate, everything
            )
        return self._optimizers[spec.name]

    def _state(self, position: tuple[int, int]) -> dict[str, Any]:
        """All that the run's end depends on: ``position`` is the phase and how many of its steps are done."""
        ctx = self.ctx
        return {
            "position": position,
            "fitted": asdict(self._fitted),
            "meter": ctx.meter.state_dict(),
            "network": ctx.network.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "taken": self._taken,
            "epoch": ctx.epoch,
            "method": (ctx.state, ctx.mask, ctx.damping),
            "helpers": {name: helper.state_dict() for name, helper in ctx.helpers.items()},
            "curriculum": ctx.curriculum.state_dict() if isinstance(ctx.curriculum, Stateful) else None,
            "random": torch.get_rng_state(),
            "observer": self.observer.state_dict() if isinstance(self.observer, Stateful) else None,
        }

    def _restore(self) -> tuple[int, int] | None:
        """Go on from the checkpoint; returns its position, None to start at the beginning (what was spent before may be on the meter then, too)."""
        ctx = self.ctx
        # Rank 0 alone says whether there is one: the others may look a moment later.
        if self.checkpoint is None or not ctx.world.on_rank_0(self.checkpoint.path.is_file):
            return None
        saved = self.checkpoint.load(ctx.device)
        if saved is None:
            return None
        now = self._state((0, 0))
        try:
            if saved["position"] is None:
                ctx.meter.load_state_dict(saved["meter"])
                return None
            fits(now, saved)
            self._load(saved)
        except Exception as error:  # noqa: BLE001 - whatever a file that is not what it should be leads to
            self._optimizers.clear()
            ctx.helpers.clear()
            self._load(now)
            self.checkpoint.set_aside(f"{type(error).__name__}: {error}")
            return None
        return saved["position"]

    def _load(self, saved: dict[str, Any]) -> None:
        """Take over a state. The network comes last: until then nothing has happened that could not be undone."""
        ctx = self.ctx
        self._fitted = Fitted(**saved["fitted"])
        ctx.meter.load_state_dict(saved["meter"])
        specs = {phase.optimizer.name: phase.optimizer for phase in self.phases}
        for name, state in saved["optimizers"].items():
            self._optimizer(specs[name]).load_state_dict(state)
        self._taken, ctx.epoch = saved["taken"], saved["epoch"]
        ctx.state, ctx.mask, ctx.damping = saved["method"]
        for name, state in saved["helpers"].items():
            ctx.helper(name).load_state_dict(state)
        if saved["curriculum"] is not None:
            if not isinstance(ctx.curriculum, Stateful):
                raise ValueError("it is of a run with a curriculum, and this one has none")
            ctx.curriculum.load_state_dict(saved["curriculum"])
        torch.set_rng_state(saved["random"])
        if saved["observer"] is not None and isinstance(self.observer, Stateful):
            self.observer.load_state_dict(saved["observer"])
        ctx.network.load_state_dict(saved["network"])

    def _steps(self, phase: Phase, epochs: float) -> int:
        """Steps of so many passes."""
        return self.ctx.data.steps(phase.driver if phase.on == "paired" else phase.on, self._size(phase), epochs)

    def _examples(self, phase: Phase) -> list[float]:
        """How many examples' work each step of the whole phase is; of a mixed batch with its share of D_F."""
        steps, data, size = self._steps(phase, phase.epochs), self.ctx.data, self._size(phase)
        sizes = [data.sizes(name, size) for name in phase.sets]
        more = (phase.forget_rows - 1) * data.count("forget") / data.count("mixed") if phase.on == "mixed" else 0.0
        return [sum(each[step % len(each)] for each in sizes) * (1 + more) for step in range(steps)]

    def _size(self, phase: Phase) -> int:
        return phase.batch_size or self.options.batch_size

    def _batches(self, number: int, phase: Phase, first: int) -> Iterator[tuple[int, tuple[Batch, ...]]]:
        """(epoch, batches) without end, from the step ``first`` on."""
        data, size, an_epoch = self.ctx.data, self._size(phase), self._steps(phase, 1)
        stream = ("batches", self.ctx.seed, number)
        streams = zip(*(data.passes(name, size, stream, phase.augment, first) for name in phase.sets))
        for step, batches in enumerate(streams, first):
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


def work_of(phase: Phase, batches: tuple[Batch, ...]) -> int:
    """How many examples' work a step on these batches is."""
    size = sum(len(batch) for batch in batches)
    more = phase.forget_rows - 1
    return size + more * sum(int(batch.forget.sum()) for batch in batches) if more else size


def fits(now: dict[str, Any], saved: dict[str, Any]) -> None:
    """Raise ValueError where a saved state has other parts than the run's own, or weights of other shapes."""
    if now.keys() != saved.keys():
        raise ValueError(f"it holds {', '.join(sorted(saved))}; this version saves {', '.join(sorted(now))}")
    phase, step = saved["position"]
    shapes = [{name: (t.shape, t.dtype) for name, t in state["network"].items()} for state in (now, saved)]
    if shapes[0] != shapes[1] or min(phase, step) < 0:
        raise ValueError("it is of another network or another run")
